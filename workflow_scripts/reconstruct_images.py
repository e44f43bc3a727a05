"""Reconstructs test images: embeddings, models and a guidance scale enter, one shard leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.reconstruction import ImageSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import embeddings, fit, loading, store, variants
from neuraldiffuser.diffusion.reconstruct import reconstruct


def reconstruct_images(
    *,
    paths_to_conditions: Sequence[Path | str],
    paths_to_guiding: Sequence[Path | str],
    paths_to_encoder: Sequence[Path | str],
    paths_to_models: Mapping[str, Path | str],
    paths_to_receipts: Sequence[Path | str],
    paths_to_calibrations: Sequence[Path | str],
    path_to_reconstructions: Path | str,
    name: str,
    shard: int,
    settings: ImageSettings,
    variant: Variant,
    clip_image: ClipImageSettings,
    missing_repeats: str,
    seed: int,
) -> None:
    """Writes every repeat of the test images of one shard.

    Args:
        paths_to_conditions: embeddings/{target}/{subject}.h5 of latents and texts.
        paths_to_guiding: the same of what guides, and voxels/{subject}.h5 where voxels do.
        paths_to_encoder: encoders/{subject}.safetensors and .h5 where the encoder guides.
        paths_to_models: folders by name: stable_diffusion, and what the functions need.
        paths_to_receipts: of the files in them.
        paths_to_calibrations: calibrations/{variant}/{subject}.json, its own and its lenders'.
        path_to_reconstructions: where the shard goes.
        name: the variant's.
        shard: its number, from 0.
        settings: sampler, repeats and number of shards.
        variant: what guides, and how strongly.
        clip_image: what the guidance layers are.
        missing_repeats: what is done about test images with fewer than three trials.
        seed: of the noise, and of the choice of other images and of voxels that guide.

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
    functions = loading.load_functions(source, variant.terms)
    scales = loading.read_scales(name, variant, paths_to_calibrations)
    guided = loading.sum_guidance(functions, scales, strength=variant.strength)
    conditions = embeddings.open_conditions(paths_to_conditions)
    guiding = variants.open_guiding(
        paths_to_guiding,
        held_out=conditions.latents.ids("validation"),
        missing_repeats=missing_repeats,
    )
    ids = embeddings.choose_shard(
        conditions.latents.ids("test"), shard=shard, shards=settings.shards
    )
    features = variants.read_features(guiding, ids, features=variant.features, seed=seed)
    inputs = conditions.with_features("test", ids, features)
    total = len(ids) * settings.repeats * len(engine.schedule.steps)
    with runtime.progress(total=total, description="denoises", unit="step") as bar:
        images = reconstruct(
            inputs, engine, repeats=settings.repeats, guided=guided, progress=bar.update
        )
    runtime.record(scales=scales, clipped_gradients=engine.clipped.total)
    made_with = {"seed": seed, "clipped_gradients": engine.clipped.total}
    attributes = loading.describe(variant, scales) | made_with
    store.write_reconstructions(
        Path(path_to_reconstructions), ids=ids, images=images, attributes=attributes
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        reconstruct_images(
            paths_to_conditions=snakemake.input.conditions,  # noqa: F821
            paths_to_guiding=snakemake.input.guiding,  # noqa: F821
            paths_to_encoder=snakemake.input.encoder,  # noqa: F821
            paths_to_models=snakemake.params.models,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            paths_to_calibrations=snakemake.input.calibrations,  # noqa: F821
            path_to_reconstructions=snakemake.output.reconstructions,  # noqa: F821
            name=snakemake.wildcards.variant,  # noqa: F821
            shard=int(snakemake.wildcards.shard),  # noqa: F821
            **settings,
        )
