"""The whole configuration: every section, checked together."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from neuraldiffuser.config.base import Section
from neuraldiffuser.config.decoder import Budget, DecoderSettings, Recipe
from neuraldiffuser.config.description import Description
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.config.evaluation import Evaluation
from neuraldiffuser.config.fidelity import Fidelity
from neuraldiffuser.config.guidance import VOXELS, GuidingSettings, Needs
from neuraldiffuser.config.mini import Mini
from neuraldiffuser.config.models import (
    BUILT_FROM,
    NETWORK_LOADERS,
    ModelSettings,
    PretrainedModel,
)
from neuraldiffuser.config.nsd import Nsd, SubjectName
from neuraldiffuser.config.reconstruction import Reconstruction, Variant
from neuraldiffuser.config.report import Presentation, Report
from neuraldiffuser.config.targets import TargetSettings
from neuraldiffuser.config.voxels import Voxels
from neuraldiffuser.nsd.locations import is_remote


class Paths(Section):
    """Where things lie, relative to the folder in which Snakemake runs."""

    data: str = Field("data", description="Local mirror of the NSD bucket and the captions.")
    models: str = Field("models", description="Pretrained models, a folder each.")
    results: str = Field("results", description="Everything that the workflow makes.")


class Runtime(Section):
    """How the workflow computes; no key here changes a result, so none reruns anything."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run: a GPU if this machine has one, or as named."
    )
    threads: int = Field(2, ge=1, description="CPU threads of a job that uses several.")
    gpu_memory_gb: int | None = Field(
        None,
        ge=1,
        description="GiB of a GPU's memory that a reconstruction plans its batches for; null for"
        " all that is free.",
    )
    decoder_threads: int = Field(
        1, ge=1, description="CPU threads of each process of a decoder's training."
    )
    decoder_processes: int = Field(
        1,
        ge=1,
        description="Processes that train one decoder together, each on a GPU of its own; must "
        "divide the trials that a batch takes from each subject.",
    )
    decoder_minutes: int = Field(
        2880,
        ge=1,
        description="Time limit of a decoder's training. Two minutes before it, the training keeps "
        "its checkpoint and stops; the same command goes on.",
    )


class Config(Section):
    """The configuration of one experiment."""

    experiment: str = Field(
        "nsd", pattern=r"^[a-z0-9_]+$", description="Name of the folder under paths.results."
    )
    seed: int = Field(42, ge=0, description="Seed of everything random; see the seeds of stages.")
    subjects: tuple[SubjectName, ...] = Field(
        ("subj01", "subj02", "subj05", "subj07"),
        min_length=1,
        description="Subjects that are reconstructed and evaluated.",
    )
    pretraining_subjects: tuple[SubjectName, ...] = Field(
        tuple(f"subj{number:02d}" for number in range(1, 9)),
        min_length=2,
        description="Subjects whose trials pretrain the decoders of all the others.",
    )
    paths: Paths = Field(default_factory=Paths, description=Paths.__doc__)
    runtime: Runtime = Field(default_factory=Runtime, description=Runtime.__doc__)
    nsd: Nsd = Field(default_factory=Nsd, description=Nsd.__doc__)
    voxels: Voxels = Field(default_factory=Voxels, description=Voxels.__doc__)
    models: ModelSettings = Field(default_factory=ModelSettings, description=ModelSettings.__doc__)
    targets: TargetSettings = Field(
        default_factory=TargetSettings, description=TargetSettings.__doc__
    )
    decoder: DecoderSettings = Field(
        default_factory=DecoderSettings, description=DecoderSettings.__doc__
    )
    encoding: EncodingSettings = Field(
        default_factory=EncodingSettings, description=EncodingSettings.__doc__
    )
    reconstruction: Reconstruction = Field(
        default_factory=Reconstruction, description=Reconstruction.__doc__
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description=Evaluation.__doc__)
    report: Report = Field(default_factory=Report, description=Report.__doc__)
    mini: Mini = Field(default_factory=Mini, description=Mini.__doc__)
    fidelity: Fidelity = Field(default_factory=Fidelity, description=Fidelity.__doc__)

    @cached_property
    def everybody(self) -> list[str]:
        """Every subject that is evaluated or pretrains."""
        return sorted({*self.subjects, *self.pretraining_subjects})

    @property
    def written_folders(self) -> list[Path]:
        """Where artefacts of this experiment stand."""
        results = Path(self.paths.results, self.experiment)
        return [results, Path(self.paths.data), Path(self.paths.models), Path(self.mini.bucket)]

    @property
    def description(self) -> Description:
        """What the report tells of this configuration."""
        shared = {name: getattr(self, name) for name in Description.model_fields if name != "betas"}
        return Description(betas=self.nsd.name_of_betas, **shared)

    @property
    def presentation(self) -> Presentation:
        """What tables and figures must know to name what they show."""
        return self.description.presentation

    @cached_property
    def pretraining_recipes(self) -> dict[str, Recipe]:
        """What the training of each target's decoder on the other subjects reads."""
        return self._recipes(self.decoder.pretraining)

    @cached_property
    def finetuning_recipes(self) -> dict[str, Recipe]:
        """What the training of each target's decoder on its own subject reads."""
        return self._recipes(self.decoder.finetuning)

    def _recipes(self, budget: Budget) -> dict[str, Recipe]:
        return {name: self.decoder.recipe(name, budget, self.seed) for name in self.targets.names}

    @property
    def alignments(self) -> dict[str, str]:
        """How the decoded embeddings of each target are aligned."""
        return {name: self.decoder.prediction.alignment_of(name) for name in self.targets.names}

    @cached_property
    def network_loaders(self) -> dict[str, str]:
        """Which network each judging one is, and so how its file is read."""
        return {
            name: network.architecture or self.models.zoo[network.model].loader
            for name, network in self.evaluation.measures.networks.items()
        }

    @cached_property
    def judging_models(self) -> list[str]:
        """The models that judge."""
        networks = self.evaluation.measures.networks.values()
        return sorted({network.model for network in networks})

    def needs_of(self, functions: Iterable[str]) -> list[Needs]:
        """What guidance functions read, each by itself."""
        settings = (getattr(self.reconstruction.guidance, name) for name in functions)
        return [each.needs(self.targets, self.models) for each in settings]

    @cached_property
    def guiding(self) -> dict[str, GuidingSettings]:
        """How what guides each variant was made."""
        return self._guiding(self.reconstruction.resolved_variants)

    @cached_property
    def calibrating(self) -> dict[str, GuidingSettings]:
        """How that was made by which each variant's scales are calibrated."""
        return self._guiding(self.reconstruction.calibrated_variants)

    def _guiding(self, variants: Mapping[str, Variant]) -> dict[str, GuidingSettings]:
        """What no function reads stays at its default: changing it makes nothing anew."""
        return {name: self._made(self.needs_of(one.terms)) for name, one in variants.items()}

    def _made(self, needs: Iterable[Needs]) -> GuidingSettings:
        targets = {name for each in needs for name in each.targets}
        made = {}
        if any(name.startswith("clip_image_") for name in targets):
            made["clip_image"] = self.targets.clip_image
        if VOXELS in targets:
            made["missing_repeats"] = self.voxels.missing_repeats
        return GuidingSettings(**made)

    @cached_property
    def used_models(self) -> dict[str, PretrainedModel]:
        """The models that the experiment reads."""
        reconstruction = self.reconstruction
        run = [reconstruction.variant_of(name).terms for name in reconstruction.run]
        guiding = [each.models for terms in run for each in self.needs_of(terms)]
        used = [self.models.stable_diffusion, self.models.clip_image, *self.judging_models]
        used += [name for models in guiding for name in models.values()]
        if self.targets.vae_latent.autoencoder == "image_variations":
            used.append(self.models.image_variations_autoencoder)
        if self.encoding.source == "released":
            used.append(self.models.gnet)
        if self.decoder.low_level.teacher == "convnext":
            used.append(self.models.low_level_teacher)
        return {name: model for name, model in self.models.zoo.items() if name in used}

    @model_validator(mode="after")
    def name_networks_that_exist(self) -> "Config":
        """Every evaluation network is a model of the zoo that can judge."""
        for name, network in self.evaluation.networks.items():
            key = f"evaluation.networks.{name}.model"
            built_from = BUILT_FROM.get(network.architecture)
            loaders = (built_from,) if built_from else NETWORK_LOADERS
            self.models.require(network.model, loaders, key=key)
        return self

    @model_validator(mode="after")
    def name_subjects_that_exist(self) -> "Config":
        """Every subject has sessions, and another subject to pretrain on."""
        for key in ("subjects", "pretraining_subjects"):
            for subject in getattr(self, key):
                if subject not in self.nsd.sessions:
                    raise ValueError(
                        f"{key} names {subject}, which has no sessions in nsd.sessions; "
                        f"known subjects are {', '.join(self.nsd.sessions)}"
                    )
        return self

    @model_validator(mode="after")
    def share_batches_evenly(self) -> "Config":
        """The processes of a training take equally many of each subject's trials in a batch."""
        processes, known = self.runtime.decoder_processes, set(self.pretraining_subjects)
        batches = {("finetuning", self.decoder.finetuning.batch_size)}
        for subject in self.subjects:
            others = len(known - {subject})
            batches.add(("pretraining", self.decoder.pretraining.batch_size // max(others, 1)))
        for stage, trials in sorted(batches):
            if trials % processes:
                raise ValueError(
                    f"runtime.decoder_processes is {processes}, which does not divide the {trials} "
                    f"trials that a batch of decoder.{stage} takes from each subject; choose a "
                    "divisor or another batch_size"
                )
        return self

    @model_validator(mode="after")
    def align_targets_that_exist(self) -> "Config":
        """A misspelt target would silently stay as it is."""
        for name in self.decoder.prediction.aligned_targets:
            if name not in self.targets.names:
                raise ValueError(
                    f"decoder.prediction.aligned_targets names {name}, which is no target; known "
                    f"targets are {', '.join(self.targets.names)}"
                )
        return self

    @model_validator(mode="after")
    def show_variants_that_run(self) -> "Config":
        """The gallery has no pictures of anything else."""
        for name in self.report.gallery_variants:
            if name not in self.reconstruction.run:
                raise ValueError(
                    f"report.gallery_variants names {name}, which does not run; reconstruction.run "
                    f"names {', '.join(self.reconstruction.run)}"
                )
        return self

    @model_validator(mode="after")
    def normalise_once(self) -> "Config":
        """MindEye2's betas are normalised already."""
        if self.nsd.source == "mindeye2" and self.voxels.normalisation != "none":
            raise ValueError(
                f"voxels.normalisation is {self.voxels.normalisation}, but the betas of nsd.source "
                "mindeye2 are normalised already; set voxels.normalisation to none"
            )
        return self

    @model_validator(mode="after")
    def keep_the_bucket_apart_from_its_mirror(self) -> "Config":
        """Snakemake removes outputs before it makes them anew: a mirror must not be the source."""
        if is_remote(self.nsd.bucket):
            return self
        bucket, mirror = Path(self.nsd.bucket).resolve(), Path(self.paths.data).resolve()
        if bucket.is_relative_to(mirror) or mirror.is_relative_to(bucket):
            raise ValueError(
                f"nsd.bucket is {self.nsd.bucket} and paths.data is {self.paths.data}, which share "
                "a folder; name another folder for the local mirror in paths.data"
            )
        return self
