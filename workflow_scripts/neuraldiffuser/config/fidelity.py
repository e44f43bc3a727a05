"""Every place where the paper, the authors' released code and sound practice differ.

``SWITCHES`` is the one declaration: docs/fidelity.md is generated from it
(``python -m neuraldiffuser.config.fidelity``), the overlays in config/fidelity are checked against
it, and the report names the reading of an experiment by it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from neuraldiffuser.config.base import Section, lookup

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "fidelity.md"
EFFECTS = REPOSITORY / "resources" / "fidelity_effects.json"
READINGS = ("released", "corrected")
NOT_MEASURED = "not yet measured"


@dataclass(frozen=True)
class Switch:
    """One disagreement: the configuration key that settles it, and what each reading says.

    ``paper`` is what the paper's text says, or that it is silent; ``released`` and ``corrected``
    are the key's values. ``tried`` is the value that is measured where both are equal;
    ``unmeasurable`` says why the miniature cannot tell what the key does.
    """

    key: str
    place: str
    paper: str
    released: Any
    corrected: Any
    why: str
    tried: Any = None
    unmeasurable: str = ""

    @property
    def contested(self) -> bool:
        """Whether the two readings differ."""
        return self.released != self.corrected

    def other_than(self, value: Any) -> Any:
        """The value that is measured where ``value`` is set: the other reading's, or ``tried``."""
        if not self.contested:
            return self.tried
        return self.corrected if value == self.released else self.released


@dataclass(frozen=True)
class Departure:
    """A disagreement without a switch: what each reading says, what is done here, and why."""

    place: str
    paper: str
    released: str
    here: str
    why: str


SWITCHES: tuple[Switch, ...] = (
    Switch(
        key="voxels.normalisation",
        place="Statistics that normalise voxels",
        paper="silent",
        released="global_training",
        corrected="session_training",
        why="The released code reads betas normalised with the training data's statistics. Voxels "
        "drift between sessions, so statistics per session, from training trials alone, remove "
        "more noise and still never see a test image.",
    ),
    Switch(
        key="voxels.invalid_voxels",
        place="Voxels that are zero through a session, NSD's mark for no data",
        paper="silent",
        released="missing",
        corrected="missing",
        why="The paper's parameter counts are reproduced only with every nsdgeneral voxel, so none "
        "is dropped. Where a voxel has no data its value is 0, the mean after normalisation, and "
        "no mean over repeats or trials counts it.",
        tried="dropped",
    ),
    Switch(
        key="voxels.test_average",
        place="Where the three trials of a test image are averaged",
        paper="repeated scans are averaged",
        released="voxels",
        corrected="voxels",
        why="The released scoring code averages voxels before the decoder; MindEye2 averages the "
        "decoder's outputs.",
        tried="outputs",
    ),
    Switch(
        key="voxels.missing_repeats",
        place="Test images with fewer than three trials in the sessions used",
        paper="silent",
        released="padded",
        corrected="skipped",
        why="The released code repeats trials until there are three, so the first of two counts "
        "twice and its noise with it. With 40 sessions every test image has three.",
    ),
    Switch(
        key="targets.precision",
        place="Number format in which targets are computed",
        paper="silent",
        released="float16",
        corrected="float32",
        why="The released code extracts under autocast to float16, which GPUs are fastest in. "
        "float32 leaves nothing but the rounding of the stored values; float16 moves targets by "
        "0.03 to 0.1 % of their standard deviation, two to four times as much as storing them so.",
    ),
    Switch(
        key="targets.vae_latent.autoencoder",
        place="Whose latent the low-level decoder learns",
        paper="the VAE of Stable Diffusion",
        released="image_variations",
        corrected="stable_diffusion",
        why="The released training uses the autoencoder of Stable Diffusion Image Variations, "
        "while Stable Diffusion v1.4 decodes.",
        unmeasurable="it has one autoencoder",
    ),
    Switch(
        key="targets.vae_latent.posterior",
        place="Mean or draw of the latent",
        paper="silent",
        released="mode",
        corrected="mode",
        why="The released training target is the mean; its stored latents, used for the upper "
        "bound, are draws. A draw adds noise that no brain can predict.",
        tried="sample",
    ),
    Switch(
        key="targets.vae_latent.source_size",
        place="Size at which images enter the autoencoder's preprocessing",
        paper="512 x 512 images",
        released=224,
        corrected=None,
        why="The released training shrinks images to 224 pixels and enlarges them again, which "
        "blurs the target.",
    ),
    Switch(
        key="targets.clip_text.captions",
        place="Captions of an image",
        paper="silent",
        released="mean",
        corrected="mean",
        why="The released code averages the embeddings of all captions.",
        tried="first",
    ),
    Switch(
        key="targets.clip_image.node",
        place="What layer l of the CLIP image tower means",
        paper="layers 2, 4, ..., 12 (Eq. 13)",
        released="mlp_projection",
        corrected="block_output",
        why="The released hooks are named Linear-2 to Linear-12 and count linear modules: they "
        "read the MLP's second projection in blocks 1 to 6, before the residual sum. The published "
        "kappa belongs to these features and means nothing for others.",
    ),
    Switch(
        key="targets.clip_image.normalisation",
        place="Channel statistics before the CLIP image tower",
        paper="silent",
        released="imagenet",
        corrected="clip",
        why="The released code normalises with ImageNet's means and deviations; the tower was "
        "trained with CLIP's.",
    ),
    Switch(
        key="targets.clip_image.antialias",
        place="Shrinking before the CLIP image tower",
        paper="silent",
        released=False,
        corrected=True,
        why="Tensors were resized without a filter by the torchvision of that time; aliasing puts "
        "false edges into early layers.",
    ),
    Switch(
        key="decoder.backbone",
        place="Backbone of the high-level decoders",
        paper="4-layer MLP-Mixer",
        released="released_mixer",
        corrected="residual_mlp",
        why="With a sequence of one token the mixer's blocks cancel: the backbone is affine in the "
        "voxels, and 134 M of its parameters have no effect. A residual MLP does what the text "
        "describes.",
    ),
    Switch(
        key="decoder.mixco_permutation",
        place="Partners that MixCo mixes, with several subjects in a batch",
        paper="one permutation (Eq. 1)",
        released="per_subject_unoffset",
        corrected="global",
        why="The released code concatenates one permutation per subject without adding the offset "
        "of the subject's rows, so the partners' targets fall on the first subject's columns.",
    ),
    Switch(
        key="decoder.target_scaling",
        place="Scaling of the high-level targets",
        paper="silent",
        released="none",
        corrected="none",
        why="The first version of the released code standardised the guidance targets; the current "
        "one trains on raw features.",
        tried="per_dimension",
    ),
    Switch(
        key="decoder.low_level.teacher",
        place="Features that the low-level maps imitate in the soft CLIP loss",
        paper="names none",
        released="convnext",
        corrected="autoencoder",
        why="The released code imitates VICRegL's ConvNeXt-XL, whose 6.5 GB may not be used "
        "commercially. It shows it images that were shrunk to 224 pixels and enlarged to 512; here "
        "the stimuli's own 425 are enlarged, in either reading. The encoder of the autoencoder is "
        "there anyway and knows what its latents hold.",
        unmeasurable="it has no ConvNeXt, whose weights are 6.5 GB",
    ),
    Switch(
        key="decoder.optimiser.decay_groups",
        place="Parameters with weight decay",
        paper="silent",
        released="released",
        corrected="matrices",
        why="The released list of exempt names matches biases only, so the gains of norms decay "
        "too.",
    ),
    Switch(
        key="decoder.prediction.prior_sampling",
        place="Noise levels of the prior's sampling steps",
        paper="silent",
        released="released",
        corrected="exact",
        why="DALLE2-pytorch takes the two noise levels of a step from neighbouring timesteps and "
        "runs one step less than asked.",
    ),
    Switch(
        key="decoder.prediction.prior_samples",
        place="Draws of the diffusion prior per image",
        paper="silent",
        released=1,
        corrected=4,
        why="One draw carries the prior's own noise into the guidance; the mean of several "
        "approaches the posterior mean, the best guess of a feature.",
    ),
    Switch(
        key="decoder.prediction.alignment",
        place="Statistics that the momentum alignment removes (Eq. 6)",
        paper="of the test set",
        released="test_predictions",
        corrected="validation_predictions",
        why="Statistics of the whole test set make each reconstruction depend on the other test "
        "images; held-out training images give the same statistics without looking.",
    ),
    Switch(
        key="decoder.prediction.aligned_targets",
        place="Embeddings that are aligned",
        paper="the initial latent",
        released=("vae_latent",),
        corrected=("vae_latent",),
        why="The first version of the released code aligned the others too.",
        tried=("vae_latent", "clip_text"),
    ),
    Switch(
        key="reconstruction.precision",
        place="Number format of the diffusion model",
        paper="silent",
        released="float16",
        corrected="float32",
        why="The released code runs the networks under autocast to float16, which GPUs are fastest "
        "in. Gradients would be flushed to zero in it; here powers of two keep them in its range.",
        unmeasurable="CPUs compute convolutions in float32",
    ),
    Switch(
        key="reconstruction.noise_timestep",
        place="Noise level of the initial latent",
        paper="strength 0.75, 37 of 50 steps",
        released="released",
        corrected="aligned",
        why="The released code adds the noise of timestep 740 but starts denoising at 721, so the "
        "denoiser meets more noise than it is told.",
    ),
    Switch(
        key="reconstruction.tweedie",
        place="Estimate of the clean latent behind the guidance (Eq. 11)",
        paper="written with the score",
        released="released",
        corrected="exact",
        why="The released code puts the predicted noise where the score stands without its scale: "
        "(1 - abar) instead of sqrt(1 - abar). The two differ most where little noise is left.",
    ),
    Switch(
        key="reconstruction.latent_blend",
        place="Latent that is decoded for the guidance (Eq. 12)",
        paper="blend of clean estimate and noisy latent",
        released="noise_level",
        corrected="noise_level",
        why="Paper and code agree; universal guidance decodes the clean estimate itself.",
        tried="none",
    ),
    Switch(
        key="reconstruction.guidance_prediction",
        place="Noise prediction in the guidance's gradient",
        paper="conditional (Algorithm 1)",
        released="conditional",
        corrected="conditional",
        why="Paper and code agree; universal guidance takes the classifier-free combination.",
        tried="classifier_free",
    ),
    Switch(
        key="reconstruction.guided_steps",
        place="Which share eta of the steps is guided",
        paper="text: the initial 20 %; Algorithm 1: t < eta T, the last",
        released="first",
        corrected="first",
        why="The text and the code guide the first, noisiest steps; Algorithm 1 as printed would "
        "guide the last.",
        tried="last",
    ),
    Switch(
        key="reconstruction.guidance.clip_layers.loss",
        place="Loss over the CLIP layers (Eq. 14)",
        paper="sum of squared norms",
        released="weighted_mean",
        corrected="sum_squares",
        why="The released code takes means of squares, weights layers by the inverse norm of their "
        "target, and the first two by 1.5 and 1.2. With the literal sum the published kappa would "
        "be about 200 000 times stronger.",
    ),
    Switch(
        key="reconstruction.guidance.encoder.share",
        place="Voxels that guide where the encoder guides (Table 4)",
        paper="silent; all voxels of nsdgeneral score",
        released=1.0,
        corrected=0.5,
        why="Who guides towards the measured voxels cannot be judged by them. With half of the "
        "voxels, the others judge; they share the noise of their trials with those that guide.",
    ),
    Switch(
        key="reconstruction.variants.guided.scale",
        place="Guidance scale kappa",
        paper="300000",
        released=300_000.0,
        corrected="auto",
        why="A scale holds for one choice of features and loss only. auto finds, on held-out "
        "training images, the scale at which guidance stands in a chosen ratio to the denoiser.",
    ),
    Switch(
        key="reconstruction.variants.ground_truth_guided.scale",
        place="Guidance scale kappa for ground-truth embeddings (Fig. 9)",
        paper="300000",
        released=300_000.0,
        corrected="auto",
        why="Features without decoding errors bear a stronger guidance, so their scale is "
        "calibrated by itself.",
    ),
    Switch(
        key="reconstruction.variants.brain_encoding.scale",
        place="Guidance scale kappa of the brain-encoding model (Table 4)",
        paper="800, eta 1",
        released=800.0,
        corrected="auto",
        why="The code of that comparison is not released: neither its loss over voxels nor their "
        "normalisation is known, so its kappa holds for no other implementation.",
    ),
    Switch(
        key="evaluation.first_resize",
        place="Resizing before any metric",
        paper="follows earlier work",
        released=256,
        corrected=None,
        why="The peers' evaluation first brings every image to 256 pixels, so each metric sees "
        "images resampled twice.",
    ),
    Switch(
        key="evaluation.identification",
        place="Two-way identification",
        paper="follows Takagi et al.",
        released="takagi",
        corrected="mindeye",
        why="Takagi's code averages correlations over five repeats before it decides; MindEye's "
        "decides for every single reconstruction. The numbers are not interchangeable.",
    ),
    Switch(
        key="evaluation.ssim",
        place="SSIM of grey images",
        paper="silent",
        released="2d",
        corrected="2d",
        why="The peers' call makes channels of columns in scikit-image up to 0.19 and is the usual "
        "two-dimensional SSIM since; the newer peers pin newer versions.",
        tried="columns",
    ),
    Switch(
        key="evaluation.brain_correlation",
        place="What is correlated in brain correlation",
        paper="over images",
        released="voxels_per_image",
        corrected="voxels_per_image",
        why="The peers' code correlates over the voxels of a region for each image; the paper's "
        "text reads as over images for each voxel. Both are computed; this chooses what tables "
        "show.",
        tried="images_per_voxel",
    ),
    Switch(
        key="evaluation.retrieval.vote",
        place="How guidance layers retrieve together",
        paper="a voting strategy",
        released="majority",
        corrected="majority",
        why="The paper leaves the rule and its ties open, and the released code has none.",
        tried="sum",
    ),
)

DEPARTURES = (
    Departure(
        place="Noise that the repeats of an image start from",
        paper="silent",
        released="seeded with 42 before each image: one set of five for all images",
        here="drawn for each (seed, image, repeat)",
        why="With one set, whatever it favours is in every image: it does not average out over a "
        "test set, and intervals over images, which take images for independent, come out too "
        "narrow. The released draws themselves depend on the order of all draws before them.",
    ),
    Departure(
        place="First layers of a brain-encoding model that is trained here",
        paper="silent",
        released="no training code; GNet's public notebook starts from AlexNet's and freezes them",
        here="drawn at random and trained with the rest",
        why="So it needs no other model's weights. The released encoder (encoding.source: "
        "released) has the first layers that its makers gave it.",
    ),
)


def find_switch(key: str) -> Switch:
    """The switch of a key."""
    return next(switch for switch in SWITCHES if switch.key == key)


def tell_effect(switch: Switch, effects: Mapping[str, Any]) -> str:
    """What another value of a switch does to the miniature, in words.

    Args:
        switch: any of ``SWITCHES``.
        effects: as ``make fidelity`` measures and collect_fidelity.py writes them.
    """
    if switch.unmeasurable:
        return f"not measurable on the miniature: {switch.unmeasurable}"
    if switch.key in effects["switches"]:
        found = effects["switches"][switch.key]
        return f"{write_value(found['value'])}: {found['effect']}"
    if switch.key in effects["left_out"]:
        return f"not run: beyond the budget of {effects['hours']:g} h"
    return NOT_MEASURED


def list_to_try(config: Any) -> list[str]:
    """Keys whose effect this experiment can tell: first where readings differ, then the quick."""
    told = [switch for switch in SWITCHES if not switch.unmeasurable and _is_used(switch, config)]
    ordered = sorted(told, key=lambda one: (not one.contested, expected_seconds(one.key)))
    return [switch.key for switch in ordered]


def _is_used(switch: Switch, config: Any) -> bool:
    """Whether the variants run that show the key's effect."""
    return set(list_variants(switch.key)) <= set(config.reconstruction.run)


def list_variants(key: str) -> tuple[str, ...]:
    """The variants that show what a key does: its own, or guided and unguided ones."""
    own = key.partition(".variants.")[2].partition(".")[0]
    if own:
        return (own,)
    return ("brain_encoding",) if ".guidance.encoder." in key else ("guided", "unguided")


# Seconds of what reruns for a key on two cores that do other work too, measured on the miniature.
SECONDS = {
    "voxels": 220,
    "voxels.missing_repeats": 120,
    "targets": 200,
    "decoder": 190,
    "decoder.prediction": 130,
    "reconstruction": 110,
    "reconstruction.guidance.encoder": 190,
    "reconstruction.variants": 110,
    "reconstruction.variants.brain_encoding": 180,
    "evaluation": 15,
    "": 400,  # the world without any switch
}


def expected_seconds(key: str) -> int:
    """How long a switch's measurement takes, by the longest entry of ``SECONDS`` that leads it."""
    return SECONDS[max((head for head in SECONDS if key.startswith(head)), key=len)]


def choose_within(keys: Iterable[str], *, hours: float) -> list[str]:
    """The keys, in their order, that fit into the hours beside the world without any switch."""
    left = hours * 3600 - SECONDS[""]
    chosen = []
    for key in keys:
        if expected_seconds(key) <= left:
            left -= expected_seconds(key)
            chosen.append(key)
    return chosen


class Fidelity(Section):
    """What `make fidelity` may take."""

    hours: float = Field(
        1.5,
        gt=0,
        description="Expected hours on two cores, within which as many switches of "
        "docs/fidelity.md are measured as fit; those whose readings differ come first.",
    )


def compare_reading(config: Any, reading: str) -> list[Switch]:
    """The switches at which a configuration departs from a reading.

    Args:
        config: anything with the sections as attributes.
        reading: "released" or "corrected".
    """
    return [switch for switch in SWITCHES if lookup(config, switch.key) != getattr(switch, reading)]


def name_reading(config: Any) -> str:
    """Whose reading a configuration is, by what it calls a layer of CLIP.

    The guidance features decide: every guidance scale belongs to them.
    """
    clip_image = config.targets.clip_image
    first, last = clip_image.layers[0], clip_image.layers[-1]
    if clip_image.node == "mlp_projection":
        return f"released reading: MLP branches of blocks {first // 2}\N{EN DASH}{last // 2}"
    return f"corrected reading: block outputs of layers {first}\N{EN DASH}{last}"


HEADER = """\
# Fidelity: disagreements are named switches

The paper's text, the authors' released code and sound practice differ in many places. Each place is
one configuration key whose values say whose reading they are; the page's end has the exception.
`config.yaml` ships the released reading, because the published guidance scale means nothing under
another node or loss; `config/fidelity/corrected.yaml` sets every switch to the paper's idea done
soundly, and `config/fidelity/released.yaml` names the released values one by one. The title of the
report says which reading an experiment is, and lists the switches that depart from it.

Rows in which both readings agree are choices that other readers made differently. The last column
is what another value does to the miniature under the corrected reading, all other keys left as they
are: the value, then differences to the corrected one, PixCorr first and at most two more that
remain after Holm's adjustment over all metrics. Intervals are over the test images, of one training
each: what another seed would move, they do not tell. `make fidelity` measures it
(`config/mini_fidelity.yaml`), within `fidelity.hours`; what was measured is not measured again.

<!-- Generated by `python -m neuraldiffuser.config.fidelity`; a test keeps it in step. -->

| key | place | paper | released code | corrected | default | why | measured effect |
|---|---|---|---|---|---|---|---|
"""


FOOTER = """
## Without a switch

| place | paper | released code | here | why |
|---|---|---|---|---|
"""


def fidelity_page() -> str:
    """docs/fidelity.md: a row per switch, the default is the released reading; then departures."""
    effects = json.loads(EFFECTS.read_text(encoding="utf-8"))
    told = (f"| {' | '.join(astuple(each))} |\n" for each in DEPARTURES)
    return HEADER + "".join(_rows(SWITCHES, effects)) + FOOTER + "".join(told)


def _rows(switches: Iterable[Switch], effects: Mapping[str, Any]) -> Iterable[str]:
    for switch in switches:
        released, corrected = write_value(switch.released), write_value(switch.corrected)
        cells = [f"`{switch.key}`", switch.place, switch.paper, released, corrected, released]
        yield f"| {' | '.join([*cells, switch.why, tell_effect(switch, effects)])} |\n"


def write_value(value: Any) -> str:
    """A configuration value as YAML writes it, in code type."""
    if isinstance(value, str):
        return f"`{value}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    PAGE.write_text(fidelity_page(), encoding="utf-8")
