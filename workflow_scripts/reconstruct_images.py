"""Reconstructs test images: embeddings, models and a guidance scale enter, one shard leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.reconstruction import ImageSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import embeddings, loading, store, variants
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
    engine = given.engine
    functions = loading.load_functions(given.source, variant.terms)
    scales = loading.read_scales(name, variant, paths_to_calibrations)
    guided = loading.sum_guidance(functions, scales, strength=variant.strength)
    every = given.conditions.latents.ids("test")
    ids = embeddings.choose_shard(every, shard=shard, shards=settings.shards)
    features = variants.read_features(
        given.guiding, ids, features=variant.features, every=every, seed=seed
    )
    inputs = given.conditions.with_features("test", ids, features)
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
