"""Batches fit into the memory that is planned for, and are reduced where they do not."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from neuraldiffuser import runtime
from neuraldiffuser.diffusion import memory
from neuraldiffuser.diffusion.memory import (
    GIB,
    LARGEST_BATCH,
    LARGEST_PARTS,
    WHOLE_BATCH,
    BatchPlan,
    Parts,
    Peaks,
    draw_line,
    even_out,
    free_bytes,
    is_out_of_memory,
    measure_peak,
    plan_batches_for,
    run_with_reducing,
    split,
)
from neuraldiffuser.errors import MemoryExhaustedError


def line(fixed, each):
    """A stage that takes that many GiB."""
    return lambda samples: int((fixed + samples * each) * GIB)


# About Stable Diffusion v1.4 in float16
V1_4 = Peaks(
    denoise=line(0.2, 0.14), hold=line(0.2, 0.9), decode=line(0.3, 3.1), recompute=line(0.3, 1.6)
)


def taken(plan, peaks):
    """GiB that a plan takes at most: while it guides, and while it does not."""
    decode = peaks.recompute if plan.checkpointed else peaks.decode
    guides = peaks.hold(plan.parts.guided) + decode(plan.parts.decoded)
    return max(guides, peaks.denoise(plan.samples)) / GIB


def test_parts_cover_every_row_once():
    rows = np.arange(7)
    assert [rows[part].tolist() for part in split(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert split(7, WHOLE_BATCH.guided) == [slice(0, 7)]


def test_a_line_through_one_and_two_tells_of_more():
    found = draw_line(lambda samples: 20 + 30 * samples)
    assert found == (20, 30)
    assert found.at(8) == 260
    assert found.count(260) == 8
    assert found.count(259) == 7
    assert found.count(0) == 0


@pytest.mark.parametrize("two", [120, 100, 90])
def test_two_samples_that_take_hardly_more_than_one_promise_little(two):
    """Of kernels that are chosen for speed, two samples' may take less than one's."""
    found = draw_line({1: 100, 2: two}.get)
    assert found == (50, 50)
    assert found.count(1000) == 19


@pytest.mark.parametrize("gib", [4, 8, 12, 16, 21.6, 40, 80])
def test_plans_fit_and_grow_with_memory(gib):
    plan = plan_batches_for(V1_4, free=gib * GIB, count=1000)
    assert taken(plan, V1_4) <= gib
    more = plan_batches_for(V1_4, free=2 * gib * GIB, count=1000)
    assert more.samples >= plan.samples
    assert not more.checkpointed
    if not plan.checkpointed:
        assert more.parts.guided >= plan.parts.guided
        assert more.parts.decoded >= plan.parts.decoded


def test_a_plan_takes_what_pays_and_no_more():
    plan = plan_batches_for(V1_4, free=1000 * GIB, count=10 * LARGEST_BATCH)
    assert plan == BatchPlan(LARGEST_BATCH, LARGEST_PARTS)


def test_the_denoiser_comes_first():
    """Nine would fit beside one decode; 32 samples take no fewer parts of nine than of eight."""
    plan = plan_batches_for(V1_4, free=12 * GIB, count=1000)
    assert plan == BatchPlan(32, Parts(guided=8, decoded=1))


def test_the_decoder_recomputes_only_where_it_must():
    assert not plan_batches_for(V1_4, free=4.6 * GIB, count=100).checkpointed
    tight = plan_batches_for(V1_4, free=4.4 * GIB, count=100)
    assert tight.checkpointed
    assert tight.parts.decoded == 1
    assert taken(tight, V1_4) <= 4.4


def test_too_little_memory_is_planned_as_single_samples():
    assert plan_batches_for(V1_4, free=0, count=9) == BatchPlan(1, Parts(1, 1), checkpointed=True)


def test_without_guidance_no_graph_is_planned_for():
    plain = Peaks(line(0.1, 0.14), None, line(0.1, 0.4), None)
    assert plan_batches_for(plain, free=2 * GIB, count=1000) == BatchPlan(13, Parts(0, 4))
    assert plan_batches_for(plain, free=1 * GIB, count=1000) == BatchPlan(6, Parts(0, 2))


@pytest.mark.parametrize(("count", "largest", "size"), [(250, 16, 16), (17, 16, 9), (5, 32, 5)])
def test_batches_are_evened_out(count, largest, size):
    """No more batches than before, and hardly a sample to pad."""
    assert even_out(count, largest) == size
    assert -(-count // size) == -(-count // largest)


@pytest.mark.parametrize(("limit", "expected"), [(0, 0.9 * 23 - 2), (16, 0.9 * 16 - 2)])
def test_free_memory_is_that_of_the_device_or_of_the_limit(monkeypatch, limit, expected):
    """24 GiB, of which others hold 1, this process 3 with 2 of them in use."""
    for name, value in {
        "mem_get_info": (20 * GIB, 24 * GIB),
        "memory_reserved": 3 * GIB,
        "memory_allocated": 2 * GIB,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert free_bytes(limit_gib=limit) / GIB == pytest.approx(expected)


@pytest.fixture
def device(monkeypatch):
    """A GPU of 24 GiB: `device.take(n)` allocates at most n bytes more and gives them back."""

    class Device:
        held, peak, kernels_chosen = 1000, 1000, False

        def take(self, amount):
            first, self.kernels_chosen = not self.kernels_chosen, True
            self.peak = max(self.peak, self.held + amount + 5000 * first)

        def forget_peak(self):
            self.peak = self.held

    device = Device()
    for name, value in {
        "mem_get_info": lambda: (0, 24 * GIB),
        "memory_allocated": lambda: device.held,
        "max_memory_allocated": lambda: device.peak,
        "reset_peak_memory_stats": device.forget_peak,
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return device


def test_a_peak_is_what_work_takes_once_its_kernels_are_chosen(device):
    peak = measure_peak(lambda samples: device.take(70 * samples))
    assert [peak(1), peak(2)] == [70, 140]


def test_work_that_does_not_fit_is_planned_for_no_more_than_it_did(device):
    """A GPU on which one sample is decoded in 3 GiB, and two are too many."""

    def decode(samples):
        if samples > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        device.take(3 * GIB)

    peaks = Peaks(V1_4.denoise, V1_4.hold, measure_peak(decode), V1_4.recompute)
    plan = plan_batches_for(peaks, free=23 * GIB, count=100)
    assert plan.parts.decoded == 1
    assert not plan.checkpointed


@pytest.mark.usefixtures("device")
def test_work_that_never_fits_is_recomputed():
    def decode(_samples):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    peaks = Peaks(V1_4.denoise, V1_4.hold, measure_peak(decode), V1_4.recompute)
    assert plan_batches_for(peaks, free=4 * GIB, count=100).checkpointed


# --- running out of it ----------------------------------------------------------------------


def unguided(samples):
    """A plan that is reduced by samples alone."""
    return BatchPlan(samples, Parts(guided=0, decoded=1))


def squares(plan, start, *, fits, count=10, seen=None):
    """Squares of the numbers from `start`, but batches of more than `fits` do not fit."""
    for part in split(count - start, plan.samples):
        rows = np.arange(start, count)[part]
        if seen is not None:
            seen.append(rows.tolist())
        if len(rows) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        yield rows**2


@pytest.fixture
def messages(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("neuraldiffuser"), "propagate", True)
    return lambda: caplog.messages


@pytest.mark.parametrize("fits", [1, 2, 3, 8, 16])
def test_reducing_gives_the_same_results(fits):
    results = run_with_reducing(lambda *a: squares(*a, fits=fits), BatchPlan(8), count=10)
    assert results.tolist() == [number**2 for number in range(10)]


def test_reducing_is_told_of(messages):
    run_with_reducing(lambda *a: squares(*a, fits=3), unguided(6), count=10)
    run_with_reducing(lambda *a: squares(*a, fits=3), BatchPlan(4, Parts(1, 1)), count=10)
    assert messages() == [
        "Memory is exhausted by 6 samples at a time, 1 decoded; goes on with"
        " 3 samples at a time, 1 decoded.",
        "Memory is exhausted by 4 samples at a time, 1 guided, 1 decoded; goes on with"
        " 4 samples at a time, 1 guided, 1 decoded with activations computed twice.",
        "Memory is exhausted by"
        " 4 samples at a time, 1 guided, 1 decoded with activations computed twice; goes on with"
        " 2 samples at a time, 1 guided, 1 decoded with activations computed twice.",
    ]


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        (8, {"samples": 8, "guided": 8, "decoded": 2, "checkpointed": False}),
        (3, {"samples": 2, "guided": 1, "decoded": 1, "checkpointed": True}),
    ],
)
def test_the_plan_that_was_kept_to_is_recorded(monkeypatch, fits, expected):
    """Parts that no plan sets are those of the whole batch."""
    monkeypatch.setattr(runtime, "_measured", {})
    plan = BatchPlan(8, WHOLE_BATCH._replace(decoded=2))
    run_with_reducing(lambda *a: squares(*a, fits=fits), plan, count=10)
    assert runtime._measured == {"batches": expected}


def test_what_is_finished_is_not_computed_again():
    """Memory runs out in the second batch."""
    seen, failed = [], []

    def work(plan, start):
        for rows in squares(plan, start, fits=8, count=12, seen=seen):
            if rows[0] == 16 and not failed:
                failed.append(True)
                raise torch.OutOfMemoryError("CUDA out of memory.")
            yield rows

    results = run_with_reducing(work, unguided(4), count=12)
    assert results.tolist() == [number**2 for number in range(12)]
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7], [8, 9], [10, 11]]


def test_memory_is_released_before_the_next_try(monkeypatch):
    """The error holds every frame's tensors until it is gone."""
    import weakref

    class Graph:
        """What a failing batch holds."""

    graphs, alive = [], []
    monkeypatch.setattr(
        memory, "release_memory", lambda: alive.append([graph() is not None for graph in graphs])
    )

    def work(plan, start):
        graph = Graph()
        graphs.append(weakref.ref(graph))
        yield from squares(plan, start, fits=2)

    run_with_reducing(work, unguided(4), count=10)
    assert alive == [[False]]


def test_a_single_sample_that_does_not_fit_is_an_error():
    with pytest.raises(MemoryExhaustedError) as error:
        run_with_reducing(lambda *a: squares(*a, fits=0), BatchPlan(4), count=10)
    assert str(error.value) == (
        "Memory is exhausted by a single sample; set reconstruction.precision to float16, free"
        " memory, or use a device that has more."
    )


def test_other_errors_are_passed_on():
    def work(_plan, _start):
        raise RuntimeError("shapes do not match")
        yield

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_with_reducing(work, BatchPlan(4), count=10)


def steps_down(plan):
    """All plans that follow a plan, as (samples, guided, decoded, checkpointed)."""
    while (smaller := plan.reduced()) != plan:
        plan = smaller
        yield tuple(plan.as_dict().values())


def test_what_takes_most_and_costs_least_is_reduced_first():
    """The decoder's parts, the denoiser's, the decoder's activations, and samples at last."""
    assert list(steps_down(BatchPlan(12, Parts(guided=4, decoded=3)))) == [
        (12, 4, 1, False),
        (12, 2, 1, False),
        (12, 1, 1, False),
        (12, 1, 1, True),
        (6, 1, 1, True),
        (3, 1, 1, True),
        (1, 1, 1, True),
    ]


def test_without_guidance_neither_graph_nor_activations_are_reduced():
    plan = BatchPlan(4, WHOLE_BATCH._replace(guided=0))
    assert list(steps_down(plan)) == [
        (4, 0, 2, False),
        (4, 0, 1, False),
        (2, 0, 1, False),
        (1, 0, 1, False),
    ]


def test_a_single_sample_is_tried_with_activations_computed_twice():
    """What only the recomputed decoder leaves room for is reconstructed all the same."""
    tried = []

    def work(plan, start):
        tried.append(plan)
        if not plan.checkpointed:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        yield np.arange(start, 10)

    assert len(run_with_reducing(work, BatchPlan(1), count=10)) == 10
    assert [plan.checkpointed for plan in tried] == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="limits memory by the posix module resource")
def test_the_hosts_own_error_is_known():
    """torch's message in a process that may not allocate a GiB."""
    code = (
        "import resource, torch;"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30));"
        "torch.zeros(8 << 30)"
    )
    failed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError")
    assert is_out_of_memory(RuntimeError(last))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
