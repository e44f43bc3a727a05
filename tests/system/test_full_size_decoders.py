"""Two training steps of full-size decoders at batch 42, in float32 on a CPU, within 16 GB.

Half precision needs less, but takes minutes on processors that lack its instructions.
"""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from neuraldiffuser.config.decoder import Budget, LowLevel, Optimiser, Recipe
from neuraldiffuser.decoders.architectures import count_parameters
from neuraldiffuser.decoders.data import Trials
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.training import Run, train
from neuraldiffuser.nsd.published_counts import VOXELS

pytestmark = pytest.mark.system
LARGEST_GIB = 16
TWO_STEPS = Budget(epochs=2, samples_per_epoch=42, batch_size=42)  # one of MixCo, one of soft CLIP


def random_trials(shape):
    generator = torch.Generator().manual_seed(0)
    count = VOXELS["subj01"]
    return Trials(
        betas={"subj01": torch.randn(84, count, generator=generator).half()},
        ids={"subj01": np.arange(84) // 3},
        embedding=torch.randn(28, *shape, generator=generator).half(),
        embedding_ids=np.arange(28),
    )


@pytest.mark.parametrize(
    ("target", "shape", "millions", "frozen_millions"),
    [("clip_text", (77, 768), 497.9, 134.3), ("vae_latent", (4, 64, 64), 205.5, 0)],
)
def test_two_steps_move_every_weight_that_matters(
    target, shape, millions, frozen_millions, tmp_path: Path, capsys
):
    trials = random_trials(shape)
    recipe = Recipe(
        budget=TWO_STEPS,
        low_level=LowLevel(teacher="none"),
        optimiser=Optimiser(precision="fp32"),
    )
    decoder = new_decoder(target, trials, recipe)
    assert round(count_parameters(decoder.model) / 1e6, 1) == millions
    before = {name: weight.detach().clone() for name, weight in decoder.model.named_parameters()}
    run = Run(target, decoder.model, make_losses(decoder, trials), trials, recipe)
    curve = train(run, path_to_checkpoint=tmp_path / "checkpoint")
    assert len(curve) == 2 and np.isfinite(curve.to_numpy()).all()
    still = {
        name
        for name, weight in decoder.model.named_parameters()
        if torch.equal(weight, before[name])
    }
    frozen = {name for name, weight in decoder.model.named_parameters() if not weight.requires_grad}
    assert still == frozen
    assert round(sum(before[name].numel() for name in frozen) / 1e6, 1) == frozen_millions
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\n{target}: peak memory so far {peak:.1f} GiB")
    assert peak < LARGEST_GIB
