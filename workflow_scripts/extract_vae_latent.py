"""Encodes every stimulus in use: stimuli and an autoencoder enter, targets/vae_latent.h5 leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.targets import VaeLatentSettings
from neuraldiffuser.features import targets, vae_latent
from neuraldiffuser.features.store import Target, write_resumably


def extract_vae_latent(
    *,
    path_to_stimuli: Path | str,
    paths_to_responses: Sequence[Path | str],
    path_to_weights: Path | str,
    paths_to_receipts: Sequence[Path | str],
    path_to_target: Path | str,
    settings: VaeLatentSettings,
    precision: str,
    dtype: str,
    sessions: Mapping[str, int],
    seed: int,
) -> None:
    """Writes each stimulus's latent, multiplied by the autoencoder's scaling factor."""
    path_to_weights = Path(path_to_weights)
    autoencoder = vae_latent.load_encoder(
        path_to_weights.parent,
        device=runtime.execution().device,
        dtype=targets.dtype_of(precision),
    )
    target = Target(
        path=Path(path_to_target),
        shape=vae_latent.latent_shape(autoencoder, settings.image_size),
        attributes=targets.describe_target(
            targets.VAE_LATENT, settings, precision=precision, paths_to_receipts=paths_to_receipts
        ),
    )
    extraction = targets.extract_vae_latents(
        autoencoder, path_to_stimuli, settings=settings, seed=seed, dtype=dtype
    )
    write_resumably(
        {targets.VAE_LATENT: target},
        targets.find_ids_in_use(paths_to_responses, sessions=sessions),
        extraction,
        dtype=dtype,
        batch_size=extraction.batch_size,
        origin={"seed": seed} | targets.describe_origin("extract_vae_latent", [path_to_stimuli]),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        extract_vae_latent(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_responses=snakemake.input.responses,  # noqa: F821
            path_to_weights=snakemake.params.weights,  # noqa: F821
            paths_to_receipts=snakemake.input.models,  # noqa: F821
            path_to_target=snakemake.output.target,  # noqa: F821
            **settings,
        )
