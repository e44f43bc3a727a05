"""The whole configuration: every section, checked together."""

from typing import Annotated, Literal

from pydantic import Field

from neuraldiffuser.config.base import Section

Subject = Annotated[str, Field(pattern=r"^subj\d\d$")]


class Paths(Section):
    """Where things lie, relative to the folder in which Snakemake runs."""

    data: str = Field("data", description="Local mirror of the NSD bucket and the captions.")
    models: str = Field("models", description="Folders of pretrained models.")
    results: str = Field("results", description="Everything that the workflow makes.")


class Runtime(Section):
    """How the workflow computes; no key here changes a result, so none reruns anything."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run: a GPU if this machine has one, or as named."
    )
    threads: int = Field(2, ge=1, description="CPU threads of a job that uses several.")
    decoder_threads: int = Field(1, ge=1, description="CPU threads of a decoder's training.")


class Config(Section):
    """The configuration of one experiment."""

    experiment: str = Field(
        "nsd", pattern=r"^[a-z0-9_]+$", description="Name of the folder under paths.results."
    )
    seed: int = Field(42, ge=0, description="Seed of everything random; see the seeds of stages.")
    subjects: tuple[Subject, ...] = Field(
        ("subj01", "subj02", "subj05", "subj07"),
        min_length=1,
        description="Subjects that are reconstructed and evaluated.",
    )
    pretraining_subjects: tuple[Subject, ...] = Field(
        tuple(f"subj{number:02d}" for number in range(1, 9)),
        min_length=2,
        description="Subjects whose trials pretrain the decoders of all the others.",
    )
    paths: Paths = Field(default_factory=Paths, description=Paths.__doc__)
    runtime: Runtime = Field(default_factory=Runtime, description=Runtime.__doc__)
