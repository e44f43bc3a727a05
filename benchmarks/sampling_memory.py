"""Operations and memory of reconstructing at full size, counted and traced without a device.

The networks are Stable Diffusion v1.4's and ViT-B/32's by their published configurations, ours in
float16 with the guide in float32. Batches are those that the engine itself plans for a card of 24
GB from what its stages take; then a guided step of that plan is followed as a whole, beside one of
the released way.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import neuraldiffuser.torchvision_schemas  # noqa: F401  before everything that loads torchvision

import open_clip
import torch
from comparison import GIGABYTE, Row, format_table
from decoder_cases import SHAPES
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from full_size_models import AUTOENCODER, SCHEDULER, UNET, clip_configuration
from plain_sampling import Given, assemble, lay_out, reconstruct_plainly
from sampling_passes import Passes, count_passes
from step_costs import PeakMemory, trace_peak, without_content
from torch import Tensor, nn

from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.targets import ClipImageSettings
from neuraldiffuser.diffusion.attention import Denoiser
from neuraldiffuser.diffusion.gradients import pull_back
from neuraldiffuser.diffusion.guidance.clip_layers import ClipLayersGuidance
from neuraldiffuser.diffusion.memory import (
    GIB,
    PLANNED_SHARE,
    WHOLE_BATCH,
    BatchPlan,
    Parts,
    Peaks,
    draw_line,
    plan_batches_for,
    split,
)
from neuraldiffuser.diffusion.models import LatentDiffusion
from neuraldiffuser.diffusion.reconstruct import BoundLoss
from neuraldiffuser.diffusion.sampler import (
    Denoising,
    decoded_gradient,
    estimate,
    latent_gradient,
    unguided_noise,
)
from neuraldiffuser.diffusion.schedule import Step
from neuraldiffuser.features.clip_image import ClipLayers

CARD = 24 * GIB  # such as the paper used
CONTEXT = 0.6 * GIGABYTE  # of it that CUDA and its libraries take
SAMPLES = 250  # of a job: 1000 images, five times each, in 20 shards
STEPS, GUIDED_STEPS = 37, 7
STEP = Step(timestep=721, alpha_bar=0.0705, alpha_bar_next=0.0819)
SETTINGS = Reconstruction(precision="float16")
CLIP_IMAGE = ClipImageSettings()
CLIP = "ViT-B-32-quickgelu"


# --- networks of full size -----------------------------------------------------------------------


def build(kind: type, configuration: dict, dtype: torch.dtype) -> nn.Module:
    """A network of diffusers in a number format."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    network = kind.from_config(configuration).eval()
    torch.set_default_dtype(before)
    return network


def build_visual() -> nn.Module:
    """CLIP's image tower in float32 by its shapes; while built it reads numbers, so not inside."""
    with torch.device("meta"):
        visual = open_clip.CLIP(**clip_configuration(CLIP)["model_cfg"]).visual
    return visual.eval().requires_grad_(False)


def build_model() -> LatentDiffusion:
    """Ours in half precision."""
    unet = build(UNet2DConditionModel, UNET, torch.half).requires_grad_(False)
    autoencoder = build(AutoencoderKL, AUTOENCODER, torch.half).requires_grad_(False)
    autoencoder.encoder = None
    empty = torch.zeros(SHAPES["text"], dtype=torch.half)
    return LatentDiffusion(Denoiser(unet), autoencoder, empty)


def build_guidance(visual: nn.Module) -> ClipLayersGuidance:
    """Layers of CLIP."""
    network = ClipLayers(visual.to_empty(device="cpu"), **CLIP_IMAGE.model_dump())
    return ClipLayersGuidance(
        network,
        layers=CLIP_IMAGE.layers,
        loss=SETTINGS.guidance.clip_layers.loss,
        weights=SETTINGS.guidance.clip_layers.layer_weights,
    )


# --- what a step holds ---------------------------------------------------------------------------


class Trace:
    """Our networks without content, and the memory that work on them takes.

    To be used ``without_content()``, all but its tower built inside.

    Attributes:
        model, guidance: built in here.
        weights: bytes of both.
    """

    def __init__(self, memory: PeakMemory, visual: nn.Module) -> None:
        self.memory = memory
        self.model = build_model()
        self.guidance = build_guidance(visual)
        self.weights = memory.live

    def peak(self, work: Callable[[int], object]) -> Callable[[int], int]:
        """Bytes that ``work`` of a number of samples takes at most."""

        @cache
        def measure(samples: int) -> int:
            self.memory.peak = before = self.memory.live
            work(samples)
            return self.memory.peak - before

        return measure

    def stages(self) -> dict[str, Callable[[int], int]]:
        """What stages of a step take."""
        work = {
            "predictions of an unguided step": self.denoise,
            "the denoiser's graph": self.hold,
            "the decoder's graph and the guide": self.decode,
            "the same, activations computed twice": self.recompute,
        }
        return {name: self.peak(stage) for name, stage in work.items()}

    def denoising(self, count: int, parts: Parts = WHOLE_BATCH) -> Denoising:
        """What the steps of a batch share."""
        return Denoising(self.model, torch.zeros(count, *SHAPES["text"]), SETTINGS, parts)

    def loss(self, count: int) -> BoundLoss:
        """The guide, with targets."""
        shape = (count, *SHAPES["layer"])
        targets = {name: torch.ones(shape) for name in self.guidance.targets}
        return BoundLoss(self.guidance, targets)

    def denoise(self, count: int) -> None:
        """All predictions of an unguided step."""
        unguided_noise(latents(count), STEP, self.denoising(count))

    def hold(self, count: int) -> None:
        """The denoiser's graph."""
        z = latents(count).requires_grad_()
        _, z_hat = estimate(z, STEP, self.denoising(count))
        pull_back(torch.ones_like(z_hat), z_hat, z)

    def decode(self, count: int) -> None:
        """The decoder's graph, and the guide."""
        decoded_gradient(latents(count), self.model, self.loss(count))

    def recompute(self, count: int) -> None:
        """The same, but activations are computed twice rather than kept."""
        self.model.recompute_decoder(True)
        self.decode(count)
        self.model.recompute_decoder(False)

    def guided_step(self, plan: BatchPlan) -> None:
        """Gradients in the parts of the plan, then the predictions of the whole batch."""
        z, denoising = latents(plan.samples), self.denoising(plan.samples, plan.parts)
        loss = self.loss(plan.samples)
        gradients = [
            latent_gradient(z[rows], STEP, denoising.of(rows), loss.of(rows))
            for rows in split(plan.samples, plan.parts.guided)
        ]
        self.denoise(plan.samples)
        gradients.clear()

    def passes(self) -> Passes:
        """Operations of one pass through each network."""
        condition = torch.zeros(1, *SHAPES["text"])
        return count_passes(
            denoise=lambda z: self.model.denoise(z, STEP.timestep, condition).noise,
            decode=self.model.decode,
            view=lambda image: sum(layer.sum() for layer in self.guidance.network(image).values()),
            latent=latents(1),
        )


def latents(count: int) -> Tensor:
    """Of full size, in float32 as between all passes."""
    return torch.zeros(count, *SHAPES["latent"])


def plan_for_card(peaks: Peaks, weights: int) -> BatchPlan:
    """What the engine plans for a job on a card of 24 GB."""
    free = PLANNED_SHARE * (CARD - CONTEXT) - weights
    return plan_batches_for(peaks, free=free, count=SAMPLES)


def trace_released() -> int:
    """Most bytes that the released way holds: its networks, and a guided step under autocast."""
    settings = SETTINGS.model_copy(update={"steps": 2})  # of which one is run
    levels, visual = lay_out(DDIMScheduler.from_config(SCHEDULER), settings), build_visual()

    def make_step() -> Callable[[], object]:
        released = assemble(
            build(UNet2DConditionModel, UNET, torch.float32),
            build(AutoencoderKL, AUTOENCODER, torch.float32),
            visual.to_empty(device="cpu"),
            levels=levels,
            empty=torch.zeros(1, *SHAPES["text"]),
            settings=settings,
            clip_image=CLIP_IMAGE,
            half=True,
        )
        given = Given(
            latent=latents(1),
            noise=latents(1),
            condition=torch.zeros(1, *SHAPES["text"]),
            features={
                f"clip_image_{layer:02d}": torch.ones(1, *SHAPES["layer"])
                for layer in CLIP_IMAGE.layers
            },
            scale=1.0,
            guided_steps=1,
        )
        return partial(reconstruct_plainly, released, given)

    return trace_peak(make_step, steps=1)


# --- all of it -----------------------------------------------------------------------------------


def compare_memory() -> list[Row]:
    """Prints the operations of an image and the memory of its steps; returns them as rows."""
    visual = build_visual()
    with without_content(), PeakMemory() as memory:
        trace = Trace(memory, visual)
        passes, stages = trace.passes(), trace.stages()
        plan = plan_for_card(Peaks(*stages.values()), trace.weights)
        lines = {name: draw_line(stage) for name, stage in stages.items()}
        guided_step = trace.peak(trace.guided_step)
        single, planned = (trace.weights + guided_step(each) for each in (BatchPlan(1), plan))
    rows = [
        *rows_of_operations(passes),
        Row("weights", trace.weights / GIGABYTE, "GB"),
        *(Row(f"{name}, each sample", line.each / GIGABYTE, "GB") for name, line in lines.items()),
        Row("guided step of one sample", single / GIGABYTE, "GB", trace_released() / GIGABYTE),
        Row("guided step as planned", planned / GIGABYTE, "GB"),
    ]
    print(describe(plan), format_table(rows), sep="\n\n")
    return rows


def rows_of_operations(passes: Passes) -> Iterator[Row]:
    """An image without and with guidance."""
    unguided, guided = (
        passes.image(steps=STEPS, guided_steps=steps) / 1e12 for steps in (0, GUIDED_STEPS)
    )
    yield Row("unguided: operations of an image", unguided, "TFLOP")
    yield Row("guided: operations of an image", guided, "TFLOP")
    yield Row("guided over unguided", guided / unguided, "times")


def describe(plan: BatchPlan) -> str:
    """What was followed, and what the engine plans."""
    again = ", its activations computed twice" if plan.checkpointed else ""
    return (
        "Counted and traced without a device: Stable Diffusion v1.4 in float16, guided by ViT-B/32 "
        "in float32; the released way with float32 weights under autocast to float16. An image "
        f"takes {STEPS} steps, {GUIDED_STEPS} of them guided. For {SAMPLES} samples on a card of "
        f"{CARD / GIB:.0f} GiB, of which CUDA itself takes {CONTEXT / GIGABYTE:.1f} GB, the engine "
        f"plans batches of {plan.samples}, with {plan.parts.guided} at a time in the denoiser's "
        f"graph and {plan.parts.decoded} in the decoder's{again}."
    )
