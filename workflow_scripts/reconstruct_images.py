"""Reconstructs test images: embeddings, models and a guidance scale enter, one shard leaves."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.reconstruction import ImageSettings, Variant
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion import embeddings, loading, store
from neuraldiffuser.diffusion.guidance import GuidanceSource
from neuraldiffuser.diffusion.reconstruct import reconstruct


def reconstruct_images(
    *,
    paths_to_embeddings: Sequence[Path | str],
    paths_to_models: Sequence[Path | str],
    paths_to_calibrations: Sequence[Path | str],
    path_to_reconstructions: Path | str,
    shard: int,
    settings: ImageSettings,
    variant: Variant,
    clip_image: ClipImageSettings,
    seed: int,
) -> None:
    """Writes every repeat of the test images of one shard.

    Args:
        paths_to_embeddings: embeddings/{target}/{subject}.h5 of the targets the variant needs.
        paths_to_models: folder of Stable Diffusion, then what the guidance function needs.
        paths_to_calibrations: the calibration of the guidance scale; none where it is a number.
        path_to_reconstructions: where the shard goes.
        shard: its number, from 0.
        settings: sampler, repeats and number of shards.
        variant: what guides, and how strongly.
        clip_image: what the guidance layers are.
        seed: of the noise and of the choice of other images.
    """
    path_to_stable_diffusion, *paths_to_guidance = map(Path, paths_to_models)
    device = runtime.execution().device
    source = GuidanceSource(paths_to_guidance, clip_image, settings, device)
    guided = loading.load_guided(source, variant, paths_to_calibrations)
    engine = loading.load_engine(path_to_stable_diffusion, settings, seed=seed, device=device)
    by_target = embeddings.name_targets(paths_to_embeddings)
    every = embeddings.read_ids(by_target[embeddings.LATENT], "test")
    ids = embeddings.choose_shard(every, shard=shard, shards=settings.shards)
    features = guided.function.targets if guided else ()
    inputs = loading.read_variant(by_target, ids, variant, features=features, seed=seed)
    total = len(ids) * settings.repeats * len(engine.schedule.steps)
    with runtime.progress(total=total, description="denoises", unit="step") as bar:
        images = reconstruct(
            inputs, engine, repeats=settings.repeats, guided=guided, progress=bar.update
        )
    made_with = {"seed": seed, "clipped_gradients": engine.clipped.total}
    attributes = loading.describe(variant, guided) | made_with
    store.write_reconstructions(
        Path(path_to_reconstructions), ids=ids, images=images, attributes=attributes
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        reconstruct_images(
            paths_to_embeddings=snakemake.input.embeddings,  # noqa: F821
            paths_to_models=snakemake.params.models,  # noqa: F821
            paths_to_calibrations=snakemake.input.calibration,  # noqa: F821
            path_to_reconstructions=snakemake.output.reconstructions,  # noqa: F821
            shard=int(snakemake.wildcards.shard),  # noqa: F821
            **settings,
        )
