"""Compiled networks train as they are written, or are not used."""

import shutil

import numpy as np
import pytest
from planted_world import small_recipe

from neuraldiffuser import runtime
from neuraldiffuser.decoders.compilation import compile_networks
from neuraldiffuser.decoders.data import read_trials
from neuraldiffuser.decoders.fitting import make_losses, new_decoder
from neuraldiffuser.decoders.training import Run, train

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++")


def make_run(world, target="clip_text", **changes):
    trials = read_trials([world / "voxels/subj01.h5"], world / f"targets/{target}.h5")
    decoder = new_decoder(target, trials, small_recipe(**changes))
    return Run("run", decoder.model, make_losses(decoder, trials), trials, decoder.recipe)


@needs_compiler
@pytest.mark.parametrize(
    ("target", "backbone"),
    [("clip_text", "released_mixer"), ("clip_text", "residual_mlp"), ("vae_latent", "")],
)
def test_compiled_networks_train_as_they_are_written(world, tmp_path, target, backbone):
    written, compiled = (make_run(world, target, backbone=backbone) for _ in range(2))
    compile_networks(compiled)
    for name in compiled.model.compiled_parts:
        assert getattr(compiled.model, name)._compiled_call_impl is not None
    curves = [
        train(run, path_to_checkpoint=tmp_path / str(number))
        for number, run in enumerate((written, compiled))
    ]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)
    assert not any("_orig_mod" in name for name in compiled.model.state_dict())


def test_networks_whose_gradients_change_run_as_they_are_written(world, monkeypatch):
    def compile_wrongly(module):
        written = module.forward
        module._compiled_call_impl = lambda *inputs: written(*(x.detach() for x in inputs))

    run, said = make_run(world), []
    monkeypatch.setattr(type(run.model.projector), "compile", compile_wrongly)
    for part in ("voxel_encoder", "backbone", "prior"):
        monkeypatch.setattr(type(getattr(run.model, part)), "compile", lambda _: None)
    monkeypatch.setattr(runtime.logger, "warning", lambda text, *rest: said.append(text % rest))
    compile_networks(run)
    assert run.model.projector._compiled_call_impl is None
    (sentence,) = said
    assert sentence.startswith("run runs as written: compiled, it gives another gradient of ")
    assert all(weight.grad is None for weight in run.model.parameters())
