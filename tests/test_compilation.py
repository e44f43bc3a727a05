"""Compiled networks are used where they agree with the networks as they are written."""

import logging
import math

import pytest
import torch

from neuraldiffuser import runtime
from neuraldiffuser.compilation import (
    GRADIENT_TOLERANCE,
    OUTPUT_TOLERANCE,
    Answers,
    as_written,
    compile_checked,
    find_differences,
)

INPUTS = torch.tensor([3.0, 4.0])


@pytest.fixture
def said(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("neuraldiffuser"), "propagate", True)
    monkeypatch.setattr(runtime, "_measured", {})
    return lambda: caplog.messages


def compile_as(monkeypatch, forward):
    """Has every network "compiled" into a function; gives the networks that were."""
    compiled = []

    def compile_module(module, **_options):
        compiled.append(module)
        module._compiled_call_impl = forward

    monkeypatch.setattr(torch.nn.Module, "compile", compile_module)
    return compiled


def respond_with(network):
    """What a network gives, and its gradient."""

    def respond():
        z = INPUTS.clone().requires_grad_()
        outputs = network(z)
        (gradient,) = torch.autograd.grad(outputs.sum(), z, allow_unused=True)
        return Answers({"output": outputs.detach()}, {"gradient": gradient})

    return respond


def test_what_agrees_is_used(monkeypatch, said):
    network = torch.nn.Identity()
    compile_as(monkeypatch, lambda x: 1.005 * x)
    compile_checked([network], respond_with(network), name="It")
    assert torch.equal(network(INPUTS), 1.005 * INPUTS)
    assert said() == []
    assert runtime._measured == {"compiled": True}


def test_a_network_with_another_gradient_runs_as_written(monkeypatch, said):
    """Its outputs are right: only the way back is not."""
    network = torch.nn.Identity()
    compile_as(monkeypatch, lambda x: x.detach() + 0 * x)
    compile_checked([network], respond_with(network), name="It")
    assert network._compiled_call_impl is None
    assert said() == ["It runs as written: compiled, it gives another gradient"]
    assert runtime._measured == {"compiled": False}


def test_a_network_that_fails_when_compiled_runs_as_written(monkeypatch, said):
    def fail(_inputs):
        raise KeyError("its own")

    network = torch.nn.Identity()
    compile_as(monkeypatch, fail)
    compile_checked([network], respond_with(network), name="It")
    assert torch.equal(network(INPUTS), INPUTS)
    assert said() == ["It runs as written: compiling fails with KeyError: 'its own'"]


@pytest.mark.parametrize(("factor", "warnings"), [(1, 0), (2, 1)])
def test_networks_are_compiled_once(monkeypatch, said, factor, warnings):
    network = torch.nn.Identity()
    compiled = compile_as(monkeypatch, lambda x: factor * x)
    for _ in range(2):
        compile_checked([network], respond_with(network), name="It")
    assert compiled == [network]
    assert len(said()) == warnings


def test_compiled_networks_are_compared_again(monkeypatch, said):
    """First for their outputs alone, then for a gradient that they lack."""
    network = torch.nn.Identity()
    compile_as(monkeypatch, lambda x: x.detach() + 0 * x)
    compile_checked([network], lambda: Answers({"output": network(INPUTS)}, {}), name="It")
    assert not said()
    compile_checked([network], respond_with(network), name="It")
    assert said() == ["It runs as written: compiled, it gives another gradient"]


def test_compiled_networks_run_as_written_for_a_while(monkeypatch):
    network = torch.nn.Identity()
    compile_as(monkeypatch, lambda x: 2 * x)
    network.compile()
    with as_written([network]):
        assert torch.equal(network(INPUTS), INPUTS)
    assert torch.equal(network(INPUTS), 2 * INPUTS)


def test_nothing_is_run_where_nothing_is_compiled():
    compile_checked([], None, name="It")


def test_differences_beyond_rounding_are_found():
    first = {"a": 1.0, "b": 0.5, "c": 1e-5, "d": 1.0}
    second = {"a": 1.05, "b": 0.46, "c": 3e-5, "d": math.nan}
    as_tensors = [{name: torch.tensor(x) for name, x in one.items()} for one in (first, second)]
    assert find_differences(*as_tensors, 0.1) == ["c", "d"]
    assert find_differences(*as_tensors, 0.1, negligible=1e-3) == ["d"]
    assert find_differences(*as_tensors, 0.04) == ["a", "b", "c", "d"]


def test_tensors_of_equal_norm_differ_where_they_point_elsewhere():
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert find_differences({"a": one[None]}, {"a": other[None]}, 0.1) == ["a"]


def test_one_wrong_sample_among_many_is_found():
    """A quarter of its norm is a fiftieth of the whole batch's."""
    first = {"a": torch.ones(128, 3, 4, 4)}
    second = {"a": first["a"].clone()}
    second["a"][77] *= 1.25
    whole = (second["a"] - first["a"]).norm() / first["a"].norm()
    assert whole < 0.03
    assert find_differences(first, second, 0.1) == ["a"]
    assert find_differences(first, second, 0.3) == []


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 0.01), ("float16", 0.01), ("bfloat16", 0.078)]
)
@pytest.mark.parametrize("times", [0.9, 1.1])
def test_outputs_may_differ_by_what_a_format_rounds(monkeypatch, said, dtype, tolerance, times):
    network = torch.nn.Identity()
    compile_as(monkeypatch, lambda x: (1 + times * tolerance) * x)
    compile_checked([network], respond_with(network), name="It", dtype=getattr(torch, dtype))
    refused = ["It runs as written: compiled, it gives another output"]
    assert said() == (refused if times > 1 else [])


def test_gradients_may_differ_by_more_than_outputs(monkeypatch, said):
    class Steeper(torch.autograd.Function):
        """The identity, with a gradient that is five hundredths too large."""

        @staticmethod
        def forward(_context, x):
            return x.clone()

        @staticmethod
        def backward(_context, gradient):
            return 1.05 * gradient

    assert OUTPUT_TOLERANCE < 0.05 < GRADIENT_TOLERANCE
    network = torch.nn.Identity()
    compile_as(monkeypatch, Steeper.apply)
    compile_checked([network], respond_with(network), name="It")
    assert said() == []
