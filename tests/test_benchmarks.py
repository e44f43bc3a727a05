"""Every benchmark runs at its smallest size and writes rows that say how we compare."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STAGES, WAYS = ("pretraining", "finetuning"), ("forward", "backward")
FIELDS = {"name", "value", "unit", "ratio_to_peer", "ratio_to_floor", "device"}


def run(name, folder, *options):
    """What a benchmark prints and the rows that it writes."""
    path = folder / f"{name}.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--size", "tiny", "--json", path]
    answer = subprocess.run([*command, *options], capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout, json.loads(path.read_text())


@pytest.fixture(scope="module")
def betas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("betas")
    return run("betas", folder, "--folder", folder)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return run("targets", tmp_path_factory.mktemp("targets"), "--threads", "1")


@pytest.fixture(scope="module")
def target_files(tmp_path_factory):
    return run("target_files", tmp_path_factory.mktemp("target_files"))


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    return run("workflow", tmp_path_factory.mktemp("workflow"))


@pytest.fixture
def step_costs(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("step_costs")


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return run("training", tmp_path_factory.mktemp("training"), "--threads", "1")


@pytest.fixture(scope="module")
def training_memory(tmp_path_factory):
    return run("training", tmp_path_factory.mktemp("training_memory"), "--memory")


@pytest.fixture(scope="module")
def sampling(tmp_path_factory):
    return run("sampling", tmp_path_factory.mktemp("sampling"), "--threads", "1")


@pytest.fixture(scope="module")
def sampling_memory(tmp_path_factory):
    return run("sampling", tmp_path_factory.mktemp("sampling_memory"), "--memory")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    return run("metrics", tmp_path_factory.mktemp("metrics"))


@pytest.fixture(scope="module")
def ridge(tmp_path_factory):
    return run("ridge", tmp_path_factory.mktemp("ridge"))


@pytest.fixture(
    params=["betas", "targets", "target_files", "training", "ridge", "sampling", "metrics"]
)
def benchmark(request):
    return request.getfixturevalue(request.param)


def test_rows_have_every_field_and_a_name_of_their_own(benchmark):
    _, rows = benchmark
    assert all(set(row) == FIELDS for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)


def test_numbers_are_positive(benchmark):
    _, rows = benchmark
    numbers = [row[field] for row in rows for field in ("value", "ratio_to_peer", "ratio_to_floor")]
    assert all(number > 0 for number in numbers if number is not None)


def test_a_finished_run_is_seen_to_be_finished(workflow):
    """The benchmark ends with an error where a job would run or is not looked at."""
    _, rows = workflow
    jobs, *seconds = [row["value"] for row in rows]
    assert jobs > 100 and all(0 < each < 120 for each in seconds)


def test_readings_stand_beside_the_peers_and_the_floor(betas):
    _, rows = betas
    readings = [row for row in rows if row["name"].endswith(("warm: read", "cold: read"))]
    assert len(readings) == 5
    assert all(row["ratio_to_peer"] and row["ratio_to_floor"] for row in readings)


def test_a_region_moves_no_more_bytes_than_the_file(betas):
    _, rows = betas
    moved = [row for row in rows if row["name"].endswith("moved")]
    assert moved and all(row["ratio_to_peer"] >= 1 for row in moved)  # so small, it moves once


def test_the_table_says_where_it_was_measured(benchmark):
    printed, rows = benchmark
    assert rows[0]["device"] in printed
    assert all(row["name"] in printed for row in rows)


def test_betas_say_what_cold_means(betas):
    assert "POSIX_FADV_DONTNEED" in betas[0]


def test_targets_add_up_to_hours_for_all_of_nsd(targets):
    """The benchmark itself refuses values that differ from the peers'."""
    rows = {row["name"]: row for row in targets[1]}
    rates = [rows[name] for name in ("vae_latent", "clip_text", "clip_image")]
    assert all(row["unit"] == "images/s" and row["ratio_to_floor"] < 1 for row in rates)
    hours = rows["73,000 images, 8 targets"]["value"]
    assert hours == pytest.approx(sum(73_000 / row["value"] for row in rates) / 3600)


def test_half_precision_costs_what_its_digits_say(target_files):
    """float16 keeps 11 binary digits, bfloat16 8."""
    errors = {row["name"]: row["value"] for row in target_files[1] if row["unit"] == "%"}
    stored = [value for name, value in errors.items() if "stored" in name]
    assert len(stored) == 6 and all(0.005 < value < 0.05 for value in stored)
    for name, value in errors.items():
        if "computed in float16" in name:
            assert 4 * value < errors[name.replace("float16", "bfloat16")] < 16 * value


TRAININGS = [
    f"{target}, {stage}"
    for target in ("text", "layer", "latent")
    for stage in ("pretraining", "finetuning")
]


def test_training_stands_beside_the_released_way_and_the_floor(training):
    """Also with a backbone of which ours leaves nothing out."""
    rows = {row["name"]: row for row in training[1]}
    for name in [*TRAININGS, *(f"text, {stage}, residual_mlp" for stage in STAGES)]:
        assert rows[name]["unit"] == "steps/s" and rows[name]["ratio_to_peer"]
        assert rows[name]["ratio_to_floor"] < 1


def test_the_released_way_shows_the_losses_of_ours(training):
    """Six steps in float32: the benchmark refuses a difference that rounding does not explain."""
    found = re.findall(r"(.+): first losses agree within (\S+)", training[0])
    assert len(found) == len(TRAININGS) + len(STAGES)
    assert all(float(difference) < 1e-3 for _, difference in found)


def test_the_floor_of_a_step_is_the_sum_of_its_parts(training):
    table = training[0].split("One step of text, finetuning:")[1]
    *parts, whole = re.findall(r"\| ([\d.]+) ms +\|", table)
    assert sum(map(float, parts)) == pytest.approx(float(whole), rel=0.01)
    (row,) = [row for row in training[1] if row["name"] == "text, finetuning"]
    assert row["value"] / row["ratio_to_floor"] == pytest.approx(1e3 / float(whole), rel=0.01)


def test_networks_are_as_large_as_the_papers_and_fit_its_card(training_memory):
    rows = {row["name"]: row for row in training_memory[1]}
    for name in TRAININGS:
        ratio = rows[f"{name}: weights"]["ratio_to_peer"]
        assert ratio is None if "latent" in name else ratio == pytest.approx(1, abs=1e-4)
        traced = rows[f"{name}: step, traced"]["value"]
        assert traced < rows[f"{name}: with what is resident"]["value"] < 24


def test_what_fits_no_card_beside_a_training_is_streamed(training_memory):
    (text,) = re.findall(r"\| text, pretraining .*", training_memory[0])
    assert "targets" in text
    (text,) = re.findall(r"\| text, finetuning .*", training_memory[0])
    assert "nothing" in text


def test_ridge_regression_stands_beside_scikit_learns_and_the_floor(ridge):
    """The benchmark itself refuses another penalty and other predictions than scikit-learn's."""
    rows = {row["name"]: row for row in ridge[1]}
    assert rows["one target"]["ratio_to_peer"] and rows["one target"]["ratio_to_floor"] < 1
    assert rows["one target: peak memory"]["unit"] == "GB"


# --- reconstruction ------------------------------------------------------------------------------


def test_reconstruction_stands_beside_the_released_way_and_the_floor(sampling):
    rows = {row["name"]: row for row in sampling[1]}
    for name in ("unguided: an image", "guided: an image"):
        assert rows[name]["unit"] == "s" and rows[name]["ratio_to_peer"]
        assert rows[name]["ratio_to_floor"] < 1


def test_the_released_way_ends_at_the_latents_of_ours(sampling):
    """The benchmark refuses latents and images that rounding does not explain."""
    found = re.findall(r"guided: latents agree within (\S+)", sampling[0])
    assert len(found) == 2 and all(float(difference) < 1e-3 for difference in found)


def test_ours_computes_nothing_that_a_reconstruction_does_not_need(sampling):
    """Beyond the attention that is written down, a thousandth. The released way decodes more."""
    rows = {row["name"]: row for row in sampling[1]}
    for way in ("unguided", "guided"):
        operations = rows[f"{way}: operations of an image"]
        assert 0.998 < operations["ratio_to_floor"] <= 1
        assert operations["ratio_to_peer"] > 1.3


def test_the_share_of_the_devices_rate_is_that_of_what_was_executed(sampling):
    rows = {row["name"]: row for row in sampling[1]}
    for way in ("unguided", "guided"):
        seconds, operations = (
            rows[f"{way}: {name}"] for name in ("an image", "operations of an image")
        )
        rate = rows[f"{way}: operations as executed"]
        assert rate["value"] == pytest.approx(operations["value"] / seconds["value"])
        needed = rate["ratio_to_floor"] * operations["ratio_to_floor"]
        assert needed == pytest.approx(seconds["ratio_to_floor"])


def test_full_size_needs_the_arithmetic_that_was_counted_by_hand(sampling_memory):
    """92 TFLOP unguided, 133 with seven guided steps: sums of the published networks' layers."""
    rows = {row["name"]: row["value"] for row in sampling_memory[1]}
    assert rows["unguided: operations of an image"] == pytest.approx(92, rel=0.01)
    assert rows["guided: operations of an image"] == pytest.approx(133, rel=0.01)


def test_batches_that_the_engine_plans_fit_a_card_of_24_gb(sampling_memory):
    rows = {row["name"]: row for row in sampling_memory[1]}
    assert rows["guided step as planned"]["value"] < 22 * 2**30 / 1e9
    assert rows["guided step of one sample"]["ratio_to_peer"] > 1


# --- evaluation ----------------------------------------------------------------------------------


def test_metrics_stand_beside_the_peers_way_and_the_floor(metrics):
    """The benchmark itself refuses values that differ from the peers'."""
    rows = {row["name"]: row for row in metrics[1]}
    ours = {name: row for name, row in rows.items() if ": the peers' " not in name}
    assert all(row["unit"] == "s" for row in rows.values())
    assert all(row["ratio_to_peer"] and row["ratio_to_floor"] for row in ours.values())
    parts = ["pixels", "identification, AlexNet(2)", "identification, CLIP"]
    added = sum(rows[name]["value"] for name in parts)
    for which in ("all outputs", "the peers' own three"):
        assert rows[f"pixels and identification, {which}"]["value"] == pytest.approx(added)


def test_the_peers_seconds_are_those_of_each_output_and_three_are_fewer(metrics):
    rows = {row["name"]: row for row in metrics[1]}
    own = ("first resize", "pixcorr", "ssim_2d", "identification_mindeye")
    seconds = {name: row["value"] for name, row in rows.items() if ": the peers' " in name}
    assert len(seconds) == 5 + 2 * 2
    three = sum(value for name, value in seconds.items() if name.endswith(own))
    for which, added in {
        "all outputs": sum(seconds.values()),
        "the peers' own three": three,
    }.items():
        row = rows[f"pixels and identification, {which}"]
        assert row["ratio_to_peer"] * row["value"] == pytest.approx(added)


def test_values_that_differ_from_the_peers_end_the_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    metrics = import_module("metrics")
    values = {"pixcorr": torch.zeros(3, 2).numpy()}
    metrics.refuse_difference(values, values, "pixels")
    with pytest.raises(AssertionError, match="pixels, pixcorr: values differ by"):
        metrics.refuse_difference(values, {"pixcorr": values["pixcorr"] + 0.001}, "pixels")


# --- what a step costs, on a network whose costs are known ---------------------------------------

WIDTH, ROWS, LAYERS = 1000, 8, 3
WEIGHTS = LAYERS * WIDTH**2


def plain_network():
    layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    return torch.nn.Sequential(*layers), torch.randn(ROWS, WIDTH)


def train_plain_network():
    network, inputs = plain_network()
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def step():
        optimiser.zero_grad(set_to_none=True)
        network(inputs).square().mean().backward()
        optimiser.step()

    return step


def test_traced_memory_is_sixteen_bytes_a_weight_and_what_the_last_gradient_needs(step_costs):
    """Weights, gradients, two moments; then the inputs and the gradient that they meet."""
    between = step_costs.trace_peak(train_plain_network) - 16 * WEIGHTS
    scalars = 16 * step_costs.ALLOCATION  # the loss, and AdamW's steps
    assert 0 <= between - 2 * 4 * ROWS * WIDTH <= scalars


def test_moments_are_there_from_the_second_step_on(step_costs):
    once = step_costs.trace_peak(train_plain_network, steps=1)
    assert once < step_costs.trace_peak(train_plain_network)


def test_traced_memory_falls_when_something_is_freed(step_costs):
    def make_step():
        return lambda: [torch.ones(1000, 256) for _ in range(10)].clear()

    def one_by_one():
        return lambda: [torch.ones(1000, 256).sum() for _ in range(10)]

    assert step_costs.trace_peak(make_step) == 10 * 1_024_000
    assert step_costs.trace_peak(one_by_one) < 2 * 1_024_000


def test_products_cost_two_operations_a_weight_and_row_and_move_it_once(step_costs):
    with step_costs.without_content():
        network, inputs = plain_network()
        found = step_costs.parts_of_products(
            network, lambda: network(inputs).square().mean().backward()
        )
    parts = {part.name: part for part in found}
    product, one = 2 * ROWS * WIDTH**2, 4 * ROWS * WIDTH
    for layer in range(LAYERS):
        forward, backward = parts[f"{layer}, forward"], parts[f"{layer}, backward"]
        assert forward.operations == product
        assert forward.bytes == 4 * WIDTH**2 + 2 * one
        # The first layer's inputs need no gradient; a weight's counts with the optimiser.
        assert backward.operations == (2 if layer else 1) * product
        assert backward.bytes == 2 * one + (4 * WIDTH**2 + 2 * one if layer else 0)
    assert step_costs.part_of_optimiser(network).bytes == 32 * WEIGHTS


def test_a_weights_rounded_copy_counts_for_the_weight(step_costs):
    def step():
        with torch.autocast("cpu", torch.bfloat16):
            loss = network(inputs).square().mean()
        loss.backward()

    with step_costs.without_content():
        network, inputs = plain_network()
        parts = {part.name: part for part in step_costs.parts_of_products(network, step)}
    assert set(parts) == {f"{layer}, {way}" for layer in range(3) for way in WAYS}
    assert parts["1, forward"].bytes == 2 * WIDTH**2 + 2 * 2 * ROWS * WIDTH


def test_operations_of_gradients_and_of_attention_count_as_executed(step_costs):
    """Attention of a CPU, too: two products forward, and five backward, which computes one anew."""
    samples, heads, tokens, width = 2, 3, 5, 7
    query, key, value = torch.rand(3, samples, heads, tokens, width, requires_grad=True)

    def attend():
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    def pull_back():
        torch.autograd.grad(attend().sum(), query)

    product = 2 * samples * heads * tokens**2 * width
    assert step_costs.count_operations(attend) == 2 * product
    assert step_costs.count_operations(pull_back) == 7 * product


def test_frozen_weights_are_not_updated(step_costs):
    network, _ = plain_network()
    network[0].requires_grad_(False)
    assert step_costs.part_of_optimiser(network).bytes == 32 * (WEIGHTS - WIDTH**2)
