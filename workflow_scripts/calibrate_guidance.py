"""Chooses guidance scales: embeddings of held-out images and models enter, scales leave."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import CalibrationSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import calibration, embeddings, fit, loading, variants
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
    fit.refuse_strangers(
        [*paths_to_conditions, *paths_to_guiding],
        clip_image=clip_image,
        paths_to_receipts=paths_to_receipts,
    )
    models = dict(paths_to_models)
    engine = loading.load_engine(
        Path(models.pop("stable_diffusion")), settings, seed=seed, device=runtime.execution().device
    )
    source = loading.name_sources(
        engine, paths_to_models=models, paths_to_encoder=paths_to_encoder, clip_image=clip_image
    )
    conditions = embeddings.open_conditions(paths_to_conditions)
    held_out = conditions.latents.ids("validation")
    ids = calibration.choose_images(held_out, count=settings.calibration_images, seed=seed)
    guiding = variants.open_guiding(
        paths_to_guiding, held_out=held_out, missing_repeats=missing_repeats
    )
    features = {target: file.read("validation", ids) for target, file in guiding.items()}
    inputs = conditions.with_features("validation", ids, features)
    automatic = {name: term for name, term in variant.terms.items() if term.scale == "auto"}
    found = {}
    total = len(ids) * len(automatic)
    with runtime.progress(total=total, description="measures gradients", unit="image") as bar:
        for name, function in loading.load_functions(source, automatic).items():
            found[name] = calibration.calibrate(
                inputs,
                engine,
                Guided(function, variant.strength),
                ratio=automatic[name].ratio,
                progress=bar.update,
            ).as_dict()
    scales = {name: calibrated["scale"] for name, calibrated in found.items()}
    runtime.record(scales=scales, clipped_gradients=engine.clipped.total)
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
