"""What decays, how fast it is learnt, and in which precision."""

import numpy as np
import pytest
import torch
from planted_world import small_recipe
from torch.optim.lr_scheduler import OneCycleLR

from neuraldiffuser.config.decoder import Optimiser
from neuraldiffuser.decoders.architectures import build_decoder
from neuraldiffuser.decoders.optimisation import (
    DECAY_GROUPS,
    make_optimiser,
    make_scaler,
    make_schedule,
)


def names_by_decay(groups):
    with torch.device("meta"):
        model = build_decoder(
            "clip_text", (3, 8), voxel_counts={"subj01": 4}, recipe=small_recipe()
        )
    return DECAY_GROUPS[groups](model)


def test_released_groups_exempt_only_what_is_called_bias_outside_the_voxel_encoders():
    decaying, exempt = names_by_decay("released")
    assert "voxel_encoder.encoders.subj01.bias" in decaying
    assert "projector.layers.0.weight" in decaying  # a normalisation's gain
    assert "prior.norm.gain" in decaying and "prior.null_brain" in decaying
    assert "backbone.output.bias" in exempt and "projector.layers.0.bias" in exempt
    assert all("bias" in name for name in exempt)


def test_matrix_groups_exempt_gains_and_biases():
    decaying, exempt = names_by_decay("matrices")
    assert "voxel_encoder.encoders.subj01.bias" in exempt and "prior.norm.gain" in exempt
    assert "backbone.output.weight" in decaying


def test_each_group_has_its_decay():
    with torch.device("meta"):
        model = build_decoder(
            "clip_text", (3, 8), voxel_counts={"subj01": 4}, recipe=small_recipe()
        )
    settings = Optimiser(weight_decay=0.1, voxel_weight_decay=0.2, decay_groups="matrices")
    optimiser = make_optimiser(model, settings)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {
        names[id(parameter)]: group["weight_decay"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    assert decays["voxel_encoder.encoders.subj01.weight"] == 0.2
    assert decays["backbone.output.weight"] == 0.1
    assert decays["backbone.output.bias"] == 0
    assert set(decays) == set(names.values())


def test_the_schedule_is_torchs_one_cycle_with_the_released_numbers():
    def rates(make):
        parameter = torch.nn.Parameter(torch.zeros(1))
        optimiser = torch.optim.AdamW([parameter], lr=3e-4)
        schedule, found = make(optimiser), []
        for _ in range(300):
            found.append((optimiser.param_groups[0]["lr"], optimiser.param_groups[0]["betas"][0]))
            optimiser.step()
            schedule.step()
        return found

    released = rates(
        lambda optimiser: OneCycleLR(
            optimiser, max_lr=3e-4, total_steps=300, final_div_factor=1000, pct_start=2 / 150
        )
    )
    assert rates(lambda optimiser: make_schedule(optimiser, Optimiser(), steps=300)) == released
    assert max(rate for rate, _ in released) == pytest.approx(3e-4)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_schedules_exist(steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([parameter], lr=3e-4)
    schedule = make_schedule(optimiser, Optimiser(), steps=steps)
    for _ in range(steps):
        optimiser.step()
        schedule.step()
    assert np.isfinite(schedule.get_last_lr()).all()


def test_float16_keeps_gradients_that_would_vanish_and_skips_what_overflows():
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.AdamW([weight], lr=0.1, weight_decay=0, fused=True)
    scaler = make_scaler(torch.device("cpu"), "fp16")
    for factor, moves in ((1e-5, True), (torch.inf, False)):
        optimiser.zero_grad()
        before, scale = weight.item(), scaler.get_scale()
        scaler.scale(weight * factor).sum().backward()
        scaler.step(optimiser)
        scaler.update()
        assert (weight.item() != before) == moves
        assert scaler.get_scale() == (scale if moves else scale / 2)
    assert not make_scaler(torch.device("cpu"), "bf16").is_enabled()
