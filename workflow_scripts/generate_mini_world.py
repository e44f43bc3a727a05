"""From a seed to a bucket of simulated brains that looks like NSD's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime
from neuraldiffuser.config.mini import WorldSettings
from neuraldiffuser.mini import bucket
from neuraldiffuser.mini.world import World


def generate_mini_world(
    *,
    folder: str,
    world: WorldSettings,
    sessions: Mapping[str, int],
    subjects: Sequence[str],
    pretraining_subjects: Sequence[str],
    betas: str,
) -> None:
    """Writes the bucket.

    Args:
        folder: where it goes.
        world: how large the world is and how its brains respond.
        sessions: number of sessions by subject.
        subjects: who is evaluated.
        pretraining_subjects: whose trials pretrain decoders.
        betas: version of the betas, which names their folder.

    Raises:
        ConfigError: sessions, trials and pictures do not fit together.
    """
    everybody = tuple(sorted({*subjects, *pretraining_subjects}))
    plan = World(settings=world, subjects=everybody, sessions=sessions, betas=betas)
    bucket.write_bucket(Path(folder), plan)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        generate_mini_world(**settings)
