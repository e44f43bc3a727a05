"""Chooses guidance scales: embeddings of held-out images and models enter, scales leave."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import CalibrationSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import calibration, loading
from neuraldiffuser.diffusion.reconstruct import Guided


def calibrate_guidance(
    *,
    paths_to_conditions: Sequence[Path | str],
    paths_to_guiding: Sequence[Path | str],
    paths_to_encoder: Sequence[Path | str],
    paths_to_models: Mapping[str, Path | str],
    paths_to_receipts: Sequence[Path | str],
    path_to_calibration: Path | str,
    settings: CalibrationSettings,
    variant: Variant,
    clip_image: ClipImageSettings,
    missing_repeats: str,
    seed: int,
) -> None:
    """Writes, for each function whose scale is auto, that at which it has the wanted ratio.

    Args:
        paths_to_conditions: embeddings/{target}/{subject}.h5 of latents and texts.
        paths_to_guiding: the same of what guides, and voxels/{subject}.h5 where voxels do.
        paths_to_encoder: encoders/{subject}.safetensors and .h5 where the encoder guides.
        paths_to_models: folders by name: stable_diffusion, and what the functions need.
        paths_to_receipts: of the files in them.
        path_to_calibration: where the scales go, as JSON by function.
        settings: sampler, and how many held-out images to use.
        variant: guidance functions, strength and wanted ratios.
        clip_image: what the guidance layers are.
        missing_repeats: what is done about test images with fewer than three trials.
        seed: of the noise, and of the choice of images and of voxels that guide.

    Raises:
        DataError: an input is missing or damaged, or was decoded for other models or settings.
    """
    given = loading.load_materials(
        paths_to_conditions=paths_to_conditions,
        paths_to_guiding=paths_to_guiding,
        paths_to_encoder=paths_to_encoder,
        paths_to_models=paths_to_models,
        paths_to_receipts=paths_to_receipts,
        settings=settings,
        clip_image=clip_image,
        missing_repeats=missing_repeats,
        seed=seed,
    )
    held_out = given.conditions.latents.ids("validation")
    ids = calibration.choose_images(held_out, count=settings.calibration_images, seed=seed)
    features = {target: file.read("validation", ids) for target, file in given.guiding.items()}
    inputs = given.conditions.with_features("validation", ids, features)
    automatic = {name: term for name, term in variant.terms.items() if term.scale == "auto"}
    found = {}
    total = len(ids) * len(automatic)
    with runtime.progress(total=total, description="measures gradients", unit="image") as bar:
        for name, function in loading.load_functions(given.source, automatic).items():
            found[name] = calibration.calibrate(
                inputs,
                given.engine,
                Guided(function, variant.strength),
                ratio=automatic[name].ratio,
                progress=bar.update,
            ).as_dict()
    scales = {name: calibrated["scale"] for name, calibrated in found.items()}
    runtime.record(scales=scales)
    storage.write_json(path_to_calibration, found)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        calibrate_guidance(
            paths_to_conditions=snakemake.input.conditions,  # noqa: F821
            paths_to_guiding=snakemake.input.guiding,  # noqa: F821
            paths_to_encoder=snakemake.input.encoder,  # noqa: F821
            paths_to_models=snakemake.params.models,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            path_to_calibration=snakemake.output.calibration,  # noqa: F821
            **settings,
        )
