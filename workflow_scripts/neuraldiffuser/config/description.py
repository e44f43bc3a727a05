"""The part of a configuration that the report puts into words: everything that decides results."""

from neuraldiffuser.config.base import Section
from neuraldiffuser.config.decoder import DecoderSettings
from neuraldiffuser.config.encoding import EncodingSettings
from neuraldiffuser.config.evaluation import Evaluation
from neuraldiffuser.config.models import PretrainedModel
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.report import Presentation, Report
from neuraldiffuser.config.targets import TargetSettings
from neuraldiffuser.config.voxels import Voxels


class Description(Section):
    """Sections and values that the report tells; where things lie and run is not among them."""

    subjects: tuple[str, ...]
    pretraining_subjects: tuple[str, ...]
    seed: int
    betas: str
    used_models: dict[str, PretrainedModel]
    voxels: Voxels
    targets: TargetSettings
    decoder: DecoderSettings
    encoding: EncodingSettings
    reconstruction: Reconstruction
    evaluation: Evaluation
    report: Report

    @property
    def presentation(self) -> Presentation:
        """What tables and figures need of it."""
        return Presentation(
            report=self.report,
            subjects=self.subjects,
            variants=self.reconstruction.variants
            | {name: self.reconstruction.variant_of(name) for name in self.reconstruction.run},
            selections=self.reconstruction.selections,
            run=self.reconstruction.run,
            judges=self.evaluation.judges,
            identification=self.evaluation.identification,
            brain_correlation=self.evaluation.brain_correlation,
            interval_level=self.evaluation.bootstrap.level,
        )
