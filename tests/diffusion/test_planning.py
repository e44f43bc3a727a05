"""A GPU's batches are planned by what each stage of a step takes, measured as it will run."""

from dataclasses import dataclass

import pytest
import torch
from tiny_engine import guided_by, make_embeddings, make_engine, make_settings

from neuraldiffuser.compilation import is_compiled
from neuraldiffuser.diffusion import planning
from neuraldiffuser.diffusion.memory import GIB, LARGEST_BATCH, LARGEST_PARTS, BatchPlan, Parts
from neuraldiffuser.diffusion.planning import choose_plan
from neuraldiffuser.diffusion.reconstruct import make_probe


@dataclass(frozen=True)
class Run:
    """What happened while the memory of a stage was measured."""

    samples: int
    decoded: int  # images
    recomputed: bool
    compiled: bool


@pytest.fixture
def runs(model, monkeypatch):
    """Of every stage; a sample takes one GiB, or half of it where activations are recomputed."""
    seen, decoder = [], model.autoencoder.decoder

    def measure(work):
        def peak(samples):
            decoded = []
            hook = decoder.register_forward_pre_hook(lambda _, z: decoded.append(len(z[0])))
            work(samples)
            hook.remove()
            recomputed = bool(decoded) and decoder.gradient_checkpointing
            compiled = any(is_compiled(part) for part in model.compiled_parts)
            seen.append(Run(samples, sum(decoded), recomputed, compiled))
            return samples * GIB // (1 + recomputed)

        return peak

    monkeypatch.setattr(planning, "measure_peak", measure)
    yield seen
    model.recompute_decoder(False)


@pytest.fixture
def plan(model, scheduler, guidance, monkeypatch):
    """The plan for so much free memory."""
    embeddings = make_embeddings(guidance.targets)
    engine = make_engine(model, scheduler, make_settings())
    guide = guided_by(guidance, scale=2e-2, strength=0.4)

    def run(gib, *, guided=guide):
        monkeypatch.setattr(planning, "free_bytes", lambda **_: gib * GIB)
        return choose_plan(make_probe(embeddings, engine, guided), count=1000)

    return run


def test_every_stage_runs_with_one_and_two_samples(plan, runs):
    assert plan(100) == BatchPlan(LARGEST_BATCH, LARGEST_PARTS)
    assert [(run.samples, run.decoded) for run in runs] == [
        (1, 0),  # an unguided step
        (2, 0),
        (1, 1),  # the decoder's graph
        (2, 2),
        (1, 0),  # the denoiser's
        (2, 0),
    ]


def test_without_guidance_no_graph_is_measured(plan, runs):
    assert plan(100, guided=None) == BatchPlan(LARGEST_BATCH, Parts(0, LARGEST_PARTS.decoded))
    assert [(run.samples, run.decoded) for run in runs] == [(1, 0), (2, 0), (1, 1), (2, 2)]


def test_one_plan_leaves_nothing_for_the_next_to_measure(plan, runs):
    """The first recomputes; what the second measures is what is kept."""
    tight = plan(1.6)
    assert tight == BatchPlan(1, Parts(1, 1), checkpointed=True)
    assert plan(1.6) == tight
    assert [run.recomputed for run in runs if run.decoded] == 2 * [False, False, True, True]
    assert not plan(100).checkpointed


def test_networks_are_measured_as_they_are_written(model, plan, runs, monkeypatch):
    """Each number of samples would be compiled anew."""

    def compiled(*_arguments, **_options):
        raise AssertionError("runs compiled")

    for part in model.compiled_parts:
        monkeypatch.setattr(part, "_compiled_call_impl", compiled)
    plan(100)
    assert runs and not any(run.compiled for run in runs)
    assert all(is_compiled(part) for part in model.compiled_parts)


@pytest.mark.parametrize("guided", [True, False])
def test_no_gradient_is_asked_for_without_guidance(plan, runs, monkeypatch, guided):
    asked = []
    monkeypatch.setattr(torch.autograd, "grad", count_calls(torch.autograd.grad, asked))
    plan(100) if guided else plan(100, guided=None)
    assert bool(asked) is guided
    assert runs


def count_calls(function, calls):
    """The function, which notes that it was called."""

    def counted(*arguments, **options):
        calls.append(1)
        return function(*arguments, **options)

    return counted
