"""The trainings of one subject's decoders, and the counts of NSD that they read."""

from dataclasses import dataclass

from neuraldiffuser.nsd import published_counts

SUBJECT = "subj01"
STAGES = ("pretraining", "finetuning")
TARGETS = {"text": "clip_text", "layer": "clip_image_02", "latent": "vae_latent"}
SHAPES = {"text": (77, 768), "layer": (50, 768), "latent": (4, 64, 64)}  # of Stable Diffusion v1.4
LAYERS = 6
SESSIONS = dict(zip(published_counts.VOXELS, (40, 40, 32, 30, 40, 32, 40, 30), strict=True))


@dataclass(frozen=True)
class Case:
    """One training: of a target, on one subject or on all the others, with a backbone."""

    target: str
    stage: str
    backbone: str = "released_mixer"

    @property
    def name(self) -> str:
        """Target and stage, and the backbone where it is not the released one."""
        name = f"{self.target}, {self.stage}"
        return name if self.backbone == "released_mixer" else f"{name}, {self.backbone}"

    @property
    def subjects(self) -> list[str]:
        """Whose trials it reads."""
        others = [subject for subject in published_counts.VOXELS if subject != SUBJECT]
        return others if self.stage == "pretraining" else [SUBJECT]


TRAININGS = tuple(Case(target, stage) for target in TARGETS for stage in STAGES)
RESIDUAL = tuple(Case("text", stage, "residual_mlp") for stage in STAGES)


def count_trials(subject: str) -> int:
    """Training trials of a subject with all of its sessions."""
    shown = published_counts.AFTER_SESSIONS[SESSIONS[subject]]
    trials = published_counts.TRIALS_PER_SESSION * SESSIONS[subject]
    return trials - shown["test trials"]


def count_images(subjects: list[str]) -> int:
    """Training images of some subjects, of which no two share any."""
    shown = (published_counts.AFTER_SESSIONS[SESSIONS[subject]] for subject in subjects)
    return sum(counts["images"] - counts["test images"] for counts in shown)
