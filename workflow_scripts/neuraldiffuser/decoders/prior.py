"""The diffusion prior: from the backbone's tokens to a sample of the target's tokens.

    B  brain tokens, (n, T, D)        x0  target tokens, (n, T, D)
    t  timestep, 0 .. timesteps - 1   x   noised target: sqrt(a_t) x0 + sqrt(1 - a_t) noise
    a  cumulative product of the cosine schedule's 1 - beta

The network sees [B | embedded t | x + positions], 2 T + 1 tokens, and its last T outputs predict
x0. Sources: lucidrains/DALLE2-pytorch, dalle2_pytorch/dalle2_pytorch.py (layers, schedule, DDIM);
MedARC-AI/MindEyeV2, src/models.py (token order, learned positions instead of learned queries).
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neuraldiffuser.config.decoder import Prior
from neuraldiffuser.decoders.parallel import Share

COSINE_SCALE = 16.0
RELATIVE_BUCKETS = 32
RELATIVE_DISTANCE = 128


class GainLayerNorm(nn.Module):
    """Layer normalisation with a gain and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., width) to the same shape."""
        return functional.layer_norm(x, self.gain.shape, self.gain)


class TimeEmbedding(nn.Module):
    """A continuous timestep as sines and cosines, then a perceptron of two hidden layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        exponents = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
        self.register_buffer("frequencies", (10000.0**-exponents).float(), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(2 * half, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, 2 * width),
            nn.SiLU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, timesteps: torch.Tensor) -> torch.Tensor:
        """(n,) to (n, width)."""
        angles = timesteps[:, None] * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


def rotation_tables(length: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of rotary positions, each (length, size / 2)."""
    frequencies = 10000.0 ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotates neighbouring pairs of the first dimensions of (..., length, size) by position."""
    turning, still = x.split([2 * cosines.shape[1], x.shape[-1] - 2 * cosines.shape[1]], dim=-1)
    first, second = turning[..., 0::2], turning[..., 1::2]
    turned = torch.stack(
        [first * cosines - second * sines, second * cosines + first * sines], dim=-1
    )
    return torch.cat([turned.flatten(-2), still], dim=-1)


def relative_buckets(length: int) -> torch.Tensor:
    """T5's causal buckets of query minus key, (length, length + 1); key 0 is the null key.

    Buckets are counted over keys that include the null key, and keys to the right of a query share
    bucket 0 although attention is not causal: both as in DALLE2-pytorch's RelPosBias.
    """
    behind = (torch.arange(length)[:, None] - torch.arange(length + 1)).clamp(min=0)
    exact = RELATIVE_BUCKETS // 2
    growth = (behind.clamp(min=1) / exact).log() / math.log(RELATIVE_DISTANCE / exact)
    far = exact + (growth * (RELATIVE_BUCKETS - exact)).long()
    return torch.where(behind < exact, behind, far.clamp(max=RELATIVE_BUCKETS - 1))


class Attention(nn.Module):
    """Many queries, one key and value head, cosine similarity, and a learned null key and value."""

    def __init__(self, prior: Prior, width: int, length: int) -> None:
        super().__init__()
        self.heads = max(width // prior.head_size, 1)
        self.norm = GainLayerNorm(width)
        self.to_query = nn.Linear(width, self.heads * prior.head_size, bias=False)
        self.to_key_value = nn.Linear(width, 2 * prior.head_size, bias=False)
        self.null_key_value = nn.Parameter(torch.randn(2, prior.head_size))
        self.output = nn.Linear(self.heads * prior.head_size, width, bias=False)
        self.output_norm = GainLayerNorm(width)
        cosines, sines = rotation_tables(length, min(prior.rotary_size, prior.head_size))
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def forward(self, x: torch.Tensor, position_bias: torch.Tensor) -> torch.Tensor:
        """(n, length, width) and (heads, last, length + 1) to the last tokens, (n, last, width)."""
        normed, last = self.norm(x), position_bias.shape[1]
        query = self.to_query(normed[:, -last:]).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.to_key_value(normed).chunk(2, dim=-1)  # (n, length, head) each
        query = rotate(query, self.cosines[-last:], self.sines[-last:])  # (n, heads, last, head)
        key = rotate(key, self.cosines, self.sines)
        null = self.null_key_value.to(key.dtype)[:, None, None].expand(2, len(x), 1, -1)
        key = functional.normalize(torch.cat([null[0], key], dim=1), dim=-1)
        value = torch.cat([null[1], value], dim=1)
        query = functional.normalize(query, dim=-1) * COSINE_SCALE
        weights = self._weights(query, key, position_bias)
        mixed = (weights @ value).unflatten(1, (self.heads, -1))  # one value head for all queries
        return self.output_norm(self.output(mixed.transpose(1, 2).flatten(2)))

    def _weights(
        self, query: torch.Tensor, key: torch.Tensor, position_bias: torch.Tensor
    ) -> torch.Tensor:
        """Attention of all heads as one matrix, (n, heads * last, length + 1)."""
        similarity = query.flatten(1, 2) @ key.transpose(1, 2) + position_bias.flatten(0, 1)
        return similarity.softmax(dim=-1, dtype=torch.float32).to(key.dtype)


class FeedForward(nn.Module):
    """SwiGLU without biases."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        inner = int(factor * width)
        self.norm = GainLayerNorm(width)
        self.input = nn.Linear(width, 2 * inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length, width) to the same shape."""
        values, gate = self.input(self.norm(x)).chunk(2, dim=-1)
        return self.output(values * functional.silu(gate))


def predict_target(output: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """x0 is the network's output (released)."""
    return output


def predict_residual(output: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """x0 is the backbone's tokens and a correction by the network (ours)."""
    return brain + output


PREDICTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "target": predict_target,
    "residual": predict_residual,
}


class PriorNetwork(nn.Module):
    """Predicts x0 from brain tokens, timestep and noised target tokens.

    Args:
        prior: sizes.
        token_shape: (T, D) of the target.
    """

    def __init__(self, prior: Prior, token_shape: tuple[int, int]) -> None:
        super().__init__()
        tokens, width = token_shape
        length = 2 * tokens + 1
        self.token_shape = token_shape
        self.null_brain = nn.Parameter(torch.randn(tokens, width))
        self.null_target = nn.Parameter(torch.randn(tokens, width))
        self.positions = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.time = TimeEmbedding(width)
        self.relative_bias = nn.Embedding(RELATIVE_BUCKETS, max(width // prior.head_size, 1))
        self.register_buffer("buckets", relative_buckets(length), persistent=False)
        self.attentions = nn.ModuleList(
            [Attention(prior, width, length) for _ in range(prior.depth)]
        )
        self.feedforwards = nn.ModuleList(
            [FeedForward(width, prior.feedforward_factor) for _ in range(prior.depth)]
        )
        self.norm = GainLayerNorm(width)
        self.output = nn.Linear(width, width, bias=False)
        self.predict = PREDICTIONS[prior.prediction]
        if prior.prediction == "residual":
            nn.init.zeros_(self.output.weight)  # training starts from the backbone alone

    def forward(
        self, noised: torch.Tensor, timesteps: torch.Tensor, brain: torch.Tensor
    ) -> torch.Tensor:
        """(n, T, D), (n,) and (n, T, D) to the prediction of x0, (n, T, D)."""
        time = self.time(timesteps.float())[:, None]
        x = torch.cat([brain, time.to(brain.dtype), noised + self.positions], dim=1)
        position_bias = self.relative_bias(self.buckets).permute(2, 0, 1)
        for number, (attention, feedforward) in enumerate(self.layers(), start=1):
            # Of the last layer only the target's tokens are read, so only they are computed.
            last = self.token_shape[0] if number == len(self.attentions) else x.shape[1]
            x = x[:, -last:] + attention(x, position_bias[:, -last:])
            x = x + feedforward(x)
        # Dividing by the maximum keeps half precision finite; it also flips an all-negative token.
        output = self.output(self.norm(x / x.amax(dim=-1, keepdim=True).detach()))
        return self.predict(output, brain)

    def layers(self) -> Iterator[tuple[Attention, FeedForward]]:
        """Attention and feed-forward of each layer."""
        return zip(self.attentions, self.feedforwards, strict=True)


def cosine_schedule(timesteps: int) -> torch.Tensor:
    """a of every timestep, (timesteps,) float64 (Nichol and Dhariwal, with betas up to 0.999)."""
    grid = torch.linspace(0, 1, timesteps + 1, dtype=torch.float64)
    level = torch.cos((grid + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = (1 - level[1:] / level[:-1]).clamp(0, 0.999)
    return torch.cumprod(1 - betas, dim=0)


def noise_target(
    target: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """x of x0 = ``target`` at one timestep per sample."""
    a = levels[timesteps].to(target)[:, None, None]
    return a.sqrt() * target + (1 - a).sqrt() * noise


def prior_loss(
    network: PriorNetwork,
    brain: torch.Tensor,
    target: torch.Tensor,
    *,
    levels: torch.Tensor,
    condition_dropout: float,
    generator: torch.Generator,
    share: Share,
) -> torch.Tensor:
    """Mean squared error of the predicted x0 at a random timestep per sample.

    Args:
        network: the prior.
        brain: (n, T, D) backbone tokens of this process's share.
        target: (N, T, D) x0 of the whole batch.
        levels: (timesteps,) a of the schedule.
        condition_dropout: probability of hiding the brain, and independently the noised target.
        generator: draws timesteps, noise and what is hidden for the whole batch, on the device of
            ``target``.
        share: whose rows the network sees.

    Returns:
        Scalar mean over the share's samples, tokens and dimensions.
    """
    count, device = len(target), target.device
    timesteps = torch.randint(len(levels), (count,), generator=generator, device=device)
    noise = torch.randn(target.shape, generator=generator, device=device)
    hidden = torch.rand((2, count, 1, 1), generator=generator, device=device) < condition_dropout
    target, timesteps, noise, no_brain, no_target = (
        share.take(rows) for rows in (target, timesteps, noise, *hidden)
    )
    noised = noise_target(target, timesteps, noise, levels)
    predicted = network(
        torch.where(no_target, network.null_target, noised),
        timesteps,
        torch.where(no_brain, network.null_brain.to(brain.dtype), brain),
    )
    return functional.mse_loss(predicted.float(), target)


Step = tuple[int, float, float, float | None]


def released_steps(levels: torch.Tensor, steps: int) -> list[Step]:
    """DALLE2-pytorch's DDIM steps: ``steps - 1`` evaluations at mismatched noise levels.

    The grid from -1 to ``timesteps`` loses its last point, so that sampling starts a step late;
    the noise that a sample holds is read at t, but the step is computed with a of t - 1.
    """
    before = torch.cat([torch.ones(1, dtype=levels.dtype), levels[:-1]])
    times = torch.linspace(-1, len(levels), steps + 1)[:-1].int().tolist()[::-1]
    return [
        (t, float(levels[t]), float(before[t]), float(before[after]) if after >= 0 else None)
        for t, after in zip(times[:-1], times[1:], strict=True)
    ]


def exact_steps(levels: torch.Tensor, steps: int) -> list[Step]:
    """``steps`` evaluations from the last timestep down, every noise level read at its own t."""
    times = np.linspace(len(levels) - 1, -1, steps + 1).round().astype(int).tolist()
    return [
        (t, float(levels[t]), float(levels[t]), float(levels[after]) if after >= 0 else None)
        for t, after in zip(times[:-1], times[1:], strict=True)
    ]


SAMPLING_STEPS: dict[str, Callable[[torch.Tensor, int], list[Step]]] = {
    "released": released_steps,
    "exact": exact_steps,
}


@torch.no_grad()
def sample(
    network: PriorNetwork, brain: torch.Tensor, noise: torch.Tensor, steps: list[Step]
) -> torch.Tensor:
    """DDIM with eta = 1: draws x0 given the brain tokens.

    Args:
        network: the prior.
        brain: (n, T, D) backbone tokens.
        noise: (n, len(steps), T, D) standard normal: the start, then one draw per further step.
        steps: from ``SAMPLING_STEPS``: timestep, a that the sample holds, a and next a of the step.

    Returns:
        (n, T, D) float32.
    """
    x = noise[:, 0]
    for number, (t, held, a, a_next) in enumerate(steps, start=1):
        timesteps = torch.full((len(x),), t, device=x.device)
        x0 = network(x, timesteps, brain).float()
        if a_next is None:
            return x0
        epsilon = (x - held**0.5 * x0) / (1 - held) ** 0.5
        sigma = ((1 - a / a_next) * (1 - a_next) / (1 - a)) ** 0.5
        x = a_next**0.5 * x0 + sigma * noise[:, number]
        x = x + max(1 - a_next - sigma**2, 0.0) ** 0.5 * epsilon
    return x


def draw_noise(
    ids: np.ndarray, *, seed: int, draw: int, shape: tuple[int, ...], device: str = "cpu"
) -> torch.Tensor:
    """Standard normal noise, (n, *shape), that depends on nothing but seed, 73k id and draw."""
    generators = [
        torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, int(identity), draw]).generate_state(1)[0])
        )
        for identity in ids
    ]
    return torch.stack([torch.randn(shape, generator=each) for each in generators]).to(device)
