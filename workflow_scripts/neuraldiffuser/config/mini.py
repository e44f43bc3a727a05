"""The miniature world: how large its bucket is and how its brains respond."""

from pydantic import Field

from neuraldiffuser.config.base import Section


class Mini(Section):
    """The generated bucket of simulated brains; used where nsd.bucket equals mini.bucket."""

    bucket: str = Field(
        "results/mini_bucket", description="Folder of the generated bucket, in NSD's own layout."
    )
    seed: int = Field(7, ge=0, description="Seed of the scenes, the brains and their noise.")
    image_size: int = Field(64, ge=32, description="Width and height of a scene, in pixels.")
    shared_images: int = Field(50, ge=2, description="Scenes that every subject sees: the test.")
    own_images: int = Field(1450, ge=2, description="Scenes that only one subject sees.")
    trials_per_session: int = Field(
        750, ge=2, description="Trials of a session; sessions times trials is three per scene."
    )
    voxels: tuple[int, ...] = Field(
        (3400, 3900, 4400),
        min_length=1,
        description="nsdgeneral voxels of the subjects, in their order; the first ones recur "
        "where there are more subjects than numbers.",
    )
    noise_ceiling: float = Field(
        33.0,
        gt=0,
        lt=80,
        description="Mean over nsdgeneral of the share of variance, in percent, that three "
        "averaged trials let a perfect model explain; NSD's is 24 to 36.",
    )
    shared_noise: float = Field(
        0.1, ge=0, lt=1, description="Share of the noise variance that neighbouring voxels share."
    )
