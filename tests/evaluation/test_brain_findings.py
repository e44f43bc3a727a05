"""Claims about brains and encoders hold for a planted world, and fail for a wrong encoder."""

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import BootstrapSettings, FindingSettings
from neuraldiffuser.encoding.accuracy import correlate_voxels
from neuraldiffuser.evaluation.brain import Ceilings, measure_brain
from neuraldiffuser.evaluation.brain_findings import (
    build_brain_findings,
    compare_with_stimuli,
    estimate_upper_bound,
)
from neuraldiffuser.evaluation.encoder_accuracy import summarise_accuracy
from neuraldiffuser.evaluation.findings import GUIDED, UNGUIDED, claimed_differences
from neuraldiffuser.evaluation.long_form import average_per_image, to_long_form

BOOTSTRAP = BootstrapSettings(draws=500)
IDS = np.arange(60) * 7
LABELS = np.repeat([1, 3, 5, 7, 0], 60)
PERCENT = np.full(len(LABELS), 50.0)
WANTED = FindingSettings(encoder_of_ceiling=0.8)
LOST = {"stimulus": 0.0, "ground_truth_guided": 0.5, GUIDED: 1.0, UNGUIDED: 1.6, "encoder": 0.0}


@pytest.fixture(scope="module")
def world():
    """Signals of a brain, what is measured, and pictures that keep less and less of the signal."""
    generator = np.random.default_rng(0)
    shape = len(IDS), len(LABELS)
    signal = generator.normal(size=shape)
    measured = signal + generator.normal(size=shape)
    pictures = {name: signal + lost * generator.normal(size=shape) for name, lost in LOST.items()}
    return measured, pictures


def answer_rightly(picture):
    return picture


def answer_wrongly(picture):
    """Voxels in the wrong order within each area: as many as measured, and as reliable."""
    return np.roll(picture, 1, axis=1)


def judge(world, encode):
    """What the scripts make of the world through an encoder."""
    measured, pictures = world
    ceilings = Ceilings(percent=PERCENT, trials=np.full(len(IDS), 3))
    nobody = np.zeros(len(LABELS), bool)
    values = {
        (name, "subj01"): average_per_image(
            [
                to_long_form(
                    IDS,
                    measure_brain(
                        measured,
                        encode(picture)[:, None],
                        labels=LABELS,
                        ceilings=ceilings,
                        judging=nobody,
                    ),
                )
            ]
        )
        for name, picture in pictures.items()
    }
    areas = {area: label == LABELS for area, label in {"V1": 1, "V2": 3, "V3": 5, "hV4": 7}.items()}
    correlation = correlate_voxels(encode(pictures["stimulus"]), measured)
    accuracy = summarise_accuracy(correlation, ceilings=ceilings, areas=areas, bootstrap=BOOTSTRAP)
    comparisons = compare_with_stimuli(values, direction="voxels_per_image", bootstrap=BOOTSTRAP)
    return comparisons, {"subj01": accuracy.assign(split="test")}


def build(world, encode, *, settings=WANTED, guided_by_encoder=("encoder",)):
    comparisons, accuracy = judge(world, encode)
    return build_brain_findings(
        comparisons=comparisons,
        accuracy=accuracy,
        guided_by_encoder=guided_by_encoder,
        settings=settings,
    )


def test_every_claim_holds_for_the_right_encoder(world):
    claims = build(world, answer_rightly)["claims"]
    assert len(claims) == 6
    assert all(claim["holds"] for claim in claims)


def test_a_wrong_encoder_fails_every_claim(world):
    claims = build(world, answer_wrongly)["claims"]
    assert len(claims) == 6
    assert not any(claim["holds"] for claim in claims)


def test_the_nearest_variant_is_named_and_those_that_the_encoder_guided_are_left_out(world):
    names = [claim["name"] for claim in build(world, answer_rightly)["claims"]]
    assert names[0] == (
        "brain correlation of the stimulus minus that of ground truth guided, the nearest of 3 "
        "variants, is above zero: V1"
    )
    assert names[3] == "accuracy of subj01's encoder in V1 is at least 80.0 % of the noise ceiling"
    claims = build(world, answer_rightly, guided_by_encoder=())["claims"]
    assert "minus that of encoder, the nearest of 4" in claims[0]["name"]
    assert not any(claim["holds"] for claim in claims[:3])


def test_the_claim_is_one_about_the_variant_that_is_least_sure():
    """Not about the one that is nearest by its estimate."""
    rows = [("far", 0.3, -0.1), ("near", 0.2, 0.1)]
    comparisons = pd.DataFrame(rows, columns=["variant_b", "difference", "low"]).assign(
        metric="brain_correlation_V1", label="V1", high=0.6, n=40, unit="correlation"
    )
    (found,) = estimate_upper_bound(comparisons, ())
    assert found.low == -0.1
    assert "minus that of far, " in found.name


def test_without_a_threshold_encoders_are_observed(world):
    found = build(world, answer_rightly, settings=FindingSettings())
    assert len(found["claims"]) == len(found["observations"]) == 3
    observed = found["observations"][0]
    assert observed["name"] == "accuracy of subj01's encoder in V1 of the noise ceiling"
    assert (observed["n"], observed["counted"]) == (60, "voxel") and "holds" not in observed
    assert observed["interval"][0] < observed["estimate"] < observed["interval"][1]


def test_differences_are_those_of_a_loop(world):
    table, _ = judge(world, answer_rightly)
    measured, pictures = world
    row = table[(table["variant_b"] == GUIDED) & (table["metric"] == "brain_correlation_V2")]
    mask = LABELS == 3
    expected = [
        np.corrcoef(measured[k, mask], pictures["stimulus"][k, mask])[0, 1]
        - np.corrcoef(measured[k, mask], pictures[GUIDED][k, mask])[0, 1]
        for k in range(len(IDS))
    ]
    assert row["difference"].item() == pytest.approx(np.mean(expected))
    assert set(table["variant_a"]) == {"stimulus"}


def test_guidance_must_raise_early_areas_unless_their_judge_guides():
    def claimed(guided_by_encoder):
        differences = claimed_differences(WANTED, guided_by_encoder)
        return [d.metric for d in differences if d.metric.startswith("brain")]

    areas = [f"brain_correlation_{area}" for area in ("V1", "V2", "V3")]
    assert claimed(["brain_encoding"]) == areas
    assert claimed([GUIDED]) == []


def test_nothing_is_claimed_of_areas_that_were_not_measured():
    empty = pd.DataFrame(columns=["variant_b", "metric", "difference", "low", "high", "n", "unit"])
    found = build_brain_findings(
        comparisons=empty, accuracy={}, guided_by_encoder=(), settings=WANTED
    )
    assert found == {"claims": [], "observations": []}
