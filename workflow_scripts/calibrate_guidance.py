"""Chooses a guidance scale: embeddings of held-out images and models enter, a scale leaves."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import CalibrationSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import calibration, embeddings, loading
from neuraldiffuser.diffusion.guidance import GUIDANCE, GuidanceSource
from neuraldiffuser.diffusion.reconstruct import Guided


def calibrate_guidance(
    *,
    paths_to_embeddings: Sequence[Path | str],
    paths_to_models: Sequence[Path | str],
    path_to_calibration: Path | str,
    settings: CalibrationSettings,
    variant: Variant,
    clip_image: ClipImageSettings,
    seed: int,
) -> None:
    """Writes the scale at which guidance has the variant's ratio to the denoiser.

    Args:
        paths_to_embeddings: embeddings/{target}/{subject}.h5 of every target.
        paths_to_models: folder of Stable Diffusion, then what the guidance function needs.
        path_to_calibration: where the scale goes, as JSON.
        settings: sampler, and how many held-out images to use.
        variant: guidance function, strength and wanted ratio.
        clip_image: what the guidance layers are.
        seed: of the noise and of the choice of images.
    """
    path_to_stable_diffusion, *paths_to_guidance = map(Path, paths_to_models)
    device = runtime.execution().device
    function = GUIDANCE[variant.guidance](
        GuidanceSource(paths_to_guidance, clip_image, settings, device)
    )
    engine = loading.load_engine(path_to_stable_diffusion, settings, seed=seed, device=device)
    by_target = embeddings.name_targets(paths_to_embeddings)
    ids = calibration.choose_images(
        embeddings.read_ids(by_target[embeddings.LATENT], "validation"),
        count=settings.calibration_images,
        seed=seed,
    )
    inputs = embeddings.read_embeddings(
        by_target, ids, group="validation", features=function.targets
    )
    guided = Guided(function, scale=1.0, strength=variant.strength)
    with runtime.progress(total=len(ids), description="measures gradients", unit="image") as bar:
        found = calibration.calibrate(
            inputs, engine, guided, ratio=variant.ratio, progress=bar.update
        )
    storage.write_json(path_to_calibration, found.as_dict())


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        calibrate_guidance(
            paths_to_embeddings=snakemake.input.embeddings,  # noqa: F821
            paths_to_models=snakemake.params.models,  # noqa: F821
            path_to_calibration=snakemake.output.calibration,  # noqa: F821
            **settings,
        )
