"""Encodes every stimulus in use: stimuli and an autoencoder enter, targets/vae_latent.h5 leaves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.targets import VaeLatentSettings
from neuraldiffuser.features import targets, vae_latent
from neuraldiffuser.features.store import Target, write_resumably
from neuraldiffuser.nsd.stimuli import read_images


def extract_vae_latent(
    *,
    path_to_stimuli: Path | str,
    paths_to_responses: Sequence[Path | str],
    path_to_weights: Path | str,
    path_to_target: Path | str,
    settings: VaeLatentSettings,
    dtype: str,
    sessions: Mapping[str, int],
    seed: int,
) -> None:
    """Writes each stimulus's latent, multiplied by the autoencoder's scaling factor."""
    path_to_weights = Path(path_to_weights)
    autoencoder = vae_latent.load_autoencoder(
        path_to_weights.parent, device=runtime.execution().device
    )
    target = Target(
        path=Path(path_to_target),
        shape=vae_latent.latent_shape(autoencoder, settings.image_size),
        attributes=targets.describe_target(targets.VAE_LATENT, settings, path_to_weights),
    )
    compute = targets.compute_vae_latents(
        autoencoder, lambda ids: read_images(path_to_stimuli, ids), settings=settings, seed=seed
    )
    write_resumably(
        {targets.VAE_LATENT: target},
        targets.find_ids_in_use(paths_to_responses, sessions=sessions),
        compute,
        dtype=dtype,
        piece=targets.PIECE,
        origin={"seed": seed}
        | targets.describe_origin("extract_vae_latent", [path_to_stimuli, path_to_weights]),
    )


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        extract_vae_latent(
            path_to_stimuli=snakemake.input.stimuli,  # noqa: F821
            paths_to_responses=snakemake.input.responses,  # noqa: F821
            path_to_weights=snakemake.input.weights,  # noqa: F821
            path_to_target=snakemake.output.target,  # noqa: F821
            **settings,
        )
