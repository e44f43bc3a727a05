"""Findings are judged by numbers: turn a number round and the verdict turns with it."""

import json

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import BootstrapSettings, FindingSettings, RetrievalMeasure
from neuraldiffuser.errors import ConfigError
from neuraldiffuser.evaluation.findings import build_findings
from neuraldiffuser.evaluation.gains import GAINS
from neuraldiffuser.evaluation.sweep import SWEEP

SETTINGS = FindingSettings(
    early=("alexnet2",),
    late=("clip",),
    ground_truth_pixcorr=0.8,
    retrieval_over_chance=10,
    guidance_correlation=0.5,
    noise_ceiling=(20, 40),
)
# (first, second, metric): low and high ends with which the miniature shows the paper's finding.
DIFFERENCES = {
    ("guided", "unguided", "pixcorr"): (0.05, 0.12),
    ("guided", "unguided", "alexnet2"): (0.01, 0.06),
    ("guided", "unguided", "consistency"): (0.06, 0.15),
    ("guided", "unguided", "clip"): (-0.02, 0.03),
    ("guided", "wrong_image", "pixcorr"): (0.04, 0.13),
    ("wrong_image", "unguided", "pixcorr"): (-0.05, 0.02),
}
MEASURE = "both_retrieval_layers_all"  # of the default pretraining_gain
# (control, split, measure): low and high ends of decoder minus control.
CONTRASTS = {
    ("scratch", "test", MEASURE): (0.05, 0.15),
    ("scratch", "validation", MEASURE): (0.02, 0.1),
    ("ridge", "test", MEASURE): (-0.09, -0.03),
    ("ridge", "test", "pearson_layers"): (-0.02, 0.02),
    ("ridge", "test", "image_retrieval_clip_image_02_drawn"): (0.1, 0.2),
}
GOOD = {"ground_truth": 0.85, "retrieval": 0.5, "guidance": 0.6, "ceiling": 30.0}


def contrast(control, split, measure, ends, *, subject="all"):
    difference = sum(ends) / 2
    means = {"mean_first": 0.5 + difference, "mean_second": 0.5, "difference": difference}
    place = {"split": split, "subject": subject, "first": "decoder", "second": control}
    unit = {"n": 50, "unit": "share identified"}
    return place | {"measure": measure, "low": ends[0], "high": ends[1]} | means | unit


def build(
    differences=DIFFERENCES,
    *,
    settings=SETTINGS,
    contrasts=CONTRASTS,
    gains=(),
    swept=(),
    **changes,
):
    numbers = GOOD | changes
    compared = [contrast(*key, ends) for key, ends in contrasts.items()]
    compared.append(contrast("scratch", "test", MEASURE, (-1, -0.5), subject="subj01"))
    rows = [
        {
            "name": f"{first}_minus_{second}",
            "variant_a": first,
            "variant_b": second,
            "metric": metric,
            "label": metric.upper(),
            "difference": (low + high) / 2,
            "low": low,
            "high": high,
            "n": 50,
            "unit": "correlation",
            "p_holm": 0.0015,
        }
        for (first, second, metric), (low, high) in differences.items()
    ]
    head = {"variant": "ground_truth_guided", "subject": "all", "metric": "pixcorr"}
    ends = {"low": 0.7, "high": 0.9, "n": 50, "unit": "correlation"}
    retrieval = {"low": 0.4, "high": 0.6, "chance": 1 / 40, "n": 50, "direction": "image"}
    retrieval |= {"split": "test", "predictor": "decoder", "output": "projection"}
    retrieval |= {"method": "vote", "pool": "drawn", "accuracy": numbers["retrieval"]}
    others = {"split": "validation", "predictor": "ridge", "output": "embedding"}
    others |= {"method": "clip_text", "pool": "all", "direction": "brain"}
    decoding = {"split": "test", "target": "guidance", "measure": "pearson_dimensions"}
    decoding |= {"low": 0.4, "high": 0.7}
    return build_findings(
        comparisons=pd.DataFrame(rows),
        gains=pd.DataFrame(gains, columns=GAINS),
        swept=pd.DataFrame(swept, columns=SWEEP),
        guided_by_encoder=["brain_encoding"],
        summary=pd.DataFrame([head | ends | {"mean": numbers["ground_truth"]}]),
        predictors=pd.DataFrame(compared),
        retrieval={
            "subj01": pd.DataFrame(
                [retrieval, *(retrieval | {k: v, "accuracy": 0.01} for k, v in others.items())]
            )
        },
        decoding={
            "subj01": pd.DataFrame(
                [
                    decoding | {"predictor": "decoder", "value": numbers["guidance"], "n": 50},
                    decoding | {"predictor": "mean_feature", "value": 0.0, "n": 50},
                ]
            )
        },
        noise_ceilings={"subj01": np.full(20, numbers["ceiling"])},
        settings=settings,
        bootstrap=BootstrapSettings(draws=100),
    )


def tell(findings, about):
    return [o["sentence"] for o in findings["observations"] if o.get("about") == about]


def verdicts(findings):
    return {claim["name"]: claim["holds"] for claim in findings["claims"]}


CLAIMS = {
    ("guided", "unguided", "pixcorr"): "guided minus unguided is above zero: PIXCORR",
    ("guided", "unguided", "alexnet2"): "guided minus unguided is above zero: ALEXNET2",
    ("guided", "unguided", "consistency"): "guided minus unguided is above zero: CONSISTENCY",
    ("guided", "unguided", "clip"): "guided minus unguided loses less than 5.0 points: CLIP",
    ("guided", "wrong_image", "pixcorr"): "guided minus wrong image is above zero: PIXCORR",
    (
        "wrong_image",
        "unguided",
        "pixcorr",
    ): "wrong image minus unguided is not shown to be above zero: PIXCORR",
}


def test_the_good_numbers_support_every_claim():
    found = verdicts(build())
    assert set(CLAIMS.values()) < set(found)
    assert len(found) == len(CLAIMS) + 5
    assert all(found.values())


@pytest.mark.parametrize("pair", CLAIMS)
def test_each_difference_turned_round_fails_its_own_claim_only(pair):
    turned = (0.1, 0.2) if pair[0] == "wrong_image" else (-0.2, -0.1)
    found = verdicts(build(DIFFERENCES | {pair: turned}))
    assert [name for name, holds in found.items() if not holds] == [CLAIMS[pair]]


@pytest.mark.parametrize(
    ("pair", "interval"),
    [
        (("guided", "unguided", "pixcorr"), (0.0, 0.2)),
        (("guided", "unguided", "clip"), (-0.05, 0.2)),
        (("wrong_image", "unguided", "pixcorr"), (1e-9, 0.2)),
    ],
)
def test_intervals_that_touch_the_limit_do_not_hold(pair, interval):
    assert not verdicts(build(DIFFERENCES | {pair: interval}))[CLAIMS[pair]]


CEILING = "mean noise ceiling of subj01's voxels lies between 20 and 40 % of variance"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"ground_truth": 0.79}, "PixCorr of guided ground truth is at least 0.8"),
        ({"retrieval": 0.24}, "image retrieval of subj01 is at least 10 times chance"),
        (
            {"guidance": 0.49},
            "Pearson r of subj01's decoded guidance features is at least 0.5",
        ),
        (
            {"ceiling": 19.0},
            "mean noise ceiling of subj01's voxels lies between 20 and 40 % of variance",
        ),
        (
            {"ceiling": 41.0},
            "mean noise ceiling of subj01's voxels lies between 20 and 40 % of variance",
        ),
    ],
)
def test_each_threshold_that_is_missed_fails_its_own_claim_only(change, name):
    found = verdicts(build(**change))
    assert [claim for claim, holds in found.items() if not holds] == [name]


PRETRAINING = (
    "finetuning after pretraining minus training from scratch (one training each, with equal steps "
    "but for those of pretraining) is above zero: retrieval in both directions by single guidance "
    "layers among all images"
)


def test_pretraining_must_beat_training_from_scratch_on_test_images_over_all_subjects():
    assert verdicts(build())[PRETRAINING]
    turned = CONTRASTS | {("scratch", "test", MEASURE): (0.0, 0.1)}
    assert not verdicts(build(contrasts=turned))[PRETRAINING]
    elsewhere = CONTRASTS | {("scratch", "validation", MEASURE): (-0.2, -0.1)}
    assert verdicts(build(contrasts=elsewhere))[PRETRAINING]


def test_the_measure_of_the_claim_about_pretraining_is_the_configured_one():
    other = RetrievalMeasure(direction="image", output="embedding", method="vote", pool="drawn")
    settings = SETTINGS.model_copy(update={"pretraining_gain": other})
    measured = ("scratch", "test", "image_embedding_retrieval_vote_drawn")
    findings = build(settings=settings, contrasts=CONTRASTS | {measured: (-0.1, 0.2)})
    (name,) = [name for name in verdicts(findings) if "pretraining" in name]
    assert name.endswith(
        "image retrieval of embeddings by the vote of the guidance layers among drawn candidates"
    )
    assert not verdicts(findings)[name]


def test_a_claim_about_what_was_not_measured_does_not_vanish():
    lacking = {key: ends for key, ends in CONTRASTS.items() if key[:2] != ("scratch", "test")}
    elsewhere = lacking | {("scratch", "test", "both_retrieval_vote_all"): (0.1, 0.2)}
    with pytest.raises(ConfigError) as error:
        build(contrasts=elsewhere)
    assert str(error.value) == (
        "evaluation.findings.pretraining_gain asks for retrieval in both directions by single "
        "guidance layers among all images, which was not measured; choose a retrieval that "
        "evaluation/predictor_comparisons.csv holds."
    )


def test_without_a_control_nothing_is_said_of_it():
    kept = {key: ends for key, ends in CONTRASTS.items() if key[0] != "scratch"}
    findings = build(contrasts=kept)
    assert PRETRAINING not in verdicts(findings)
    told = tell(findings, "decoders")
    assert len(told) == 2 and all("ridge" in sentence for sentence in told)


def test_sentences_say_by_how_much_the_decoder_beats_a_control_or_does_not():
    sentences = tell(build(), "decoders")
    single = "in retrieval in both directions by single guidance layers among all images: "
    scratch = "a decoder trained from scratch for as many steps as finetuning"
    assert sentences == [
        f"The decoder beats {scratch} {single}"
        "60.0 % against 50.0 %, +10.0 [+5.0, +15.0] points (50 test images).",
        f"The decoder beats {scratch} {single}"
        "56.0 % against 50.0 %, +6.0 [+2.0, +10.0] points (50 validation images).",
        f"The decoder falls short of ridge regression {single}"
        "44.0 % against 50.0 %, −6.0 [−9.0, −3.0] points (50 test images).",
        "The decoder cannot be told from ridge regression in Pearson r of the guidance layers: "
        "50.0 % against 50.0 %, 0.0 [−2.0, +2.0] points (50 test images).",
    ]


TEST = {"direction": "higher", "p_holm": 0.02}


def gain(of, features, metric, ends):
    """A row of the table of gains; a control bears the name of its features."""
    variant = of if features == "own" else f"{features}_{of}"
    place = {"of": of, "variant": variant, "features": features, "reference": "unguided"}
    ends = {"difference": sum(ends) / 2, "low": ends[0], "high": ends[1], "n": 50}
    return place | {"metric": metric, "label": metric.upper(), "unit": "correlation"} | ends | TEST


def gains_of(of, metric, *, own=(0.06, 0.15), another_image=(0.01, 0.07), mean=(0.02, 0.06)):
    ends = {"own": own, "another_image": another_image, "mean": mean}
    return [gain(of, features, metric, found) for features, found in ends.items() if found]


OWN = (
    "CONSISTENCY of guided beside no guidance: guided by the image's own features "
    "+0.105 [+0.060, +0.150] (p = 0.02), "
)


def test_every_gain_stands_beside_both_controls():
    gains = gains_of("guided", "consistency")
    gains += gains_of("guided", "pixcorr", own=(0.05, 0.12), another_image=(-0.05, 0.02))
    gains += gains_of("clip_and_color", "pixcorr", mean=(-0.03, 0.01))
    told = tell(build(gains=gains), "guidance")
    assert [sentence for sentence in told if "beside no guidance:" in sentence] == [
        "PIXCORR of guided beside no guidance: guided by the image's own features "
        "+0.085 [+0.050, +0.120] (p = 0.02), by another image's features −0.015 [−0.050, +0.020] "
        "(p = 0.02) and by the mean feature +0.040 [+0.020, +0.060] (p = 0.02) (50 images).",
        OWN + "by another image's features +0.040 [+0.010, +0.070] (p = 0.02) and by the mean "
        "feature +0.040 [+0.020, +0.060] (p = 0.02) (50 images). Consistency rises under both "
        "controls, though nothing there tells of the image: alone it proves nothing.",
        "PIXCORR of clip and color beside no guidance: guided by the image's own features "
        "+0.105 [+0.060, +0.150] (p = 0.02), by another image's features +0.040 [+0.010, +0.070] "
        "(p = 0.02) and by the mean feature −0.010 [−0.030, +0.010] (p = 0.02) (50 images).",
    ]


@pytest.mark.parametrize("ends", [(-0.01, 0.05), None])
def test_of_consistency_only_rises_that_were_measured_are_told(ends):
    told = tell(build(gains=gains_of("guided", "consistency", another_image=ends)), "guidance")
    assert "Consistency rises under guidance by the mean feature, though nothing" in told[-1]


def test_where_consistency_rises_under_no_control_it_still_proves_nothing():
    still = (-0.02, 0.03)
    gains = gains_of("guided", "consistency", another_image=still, mean=still)
    assert tell(build(gains=gains), "guidance")[-1].endswith(
        "Here consistency measurably rises under no control; still it compares repeats with one "
        "another and not with the stimulus: alone it proves nothing."
    )


def test_contrary_evidence_stands_before_the_gains():
    gains = gains_of("guided", "ssim", own=(-0.2, -0.1)) + gains_of("guided", "pixcorr")
    told = tell(build(gains=gains), "guidance")
    assert told[0].endswith("It worsens SSIM −0.150 [−0.200, −0.100] (p = 0.02).")
    assert "by another image's features, measurably improves SSIM +0.040 [" in told[1]
    assert told[3].startswith("PIXCORR of guided beside no guidance")


def test_without_controls_nothing_is_said_of_them():
    assert tell(build(), "guidance") == []


def place(position, metric, aspect, ends, *, reference=0.0, line="strength"):
    values = {"line": line, "fixed": 1.0, "place": position, "variant": f"v_{position:g}"}
    values |= {"features": "own", "reference_place": reference, "reference": "unguided"}
    values |= {"metric": metric, "label": metric, "aspect": aspect, "unit": "correlation"}
    values |= {"difference": sum(ends) / 2, "low": ends[0], "high": ends[1], "n": 50}
    return values | {"direction": "higher"}


def test_the_sweep_is_told_with_the_differences_behind_its_sentences():
    swept = [
        place(0.5, "pixcorr", "detail", (0.1, 0.2)),
        place(1.0, "pixcorr", "detail", (0.2, 0.3)),
        place(0.5, "late", "quality", (-0.1, 0.1)),
        place(1.0, "late", "quality", (-0.3, -0.2)),
        place(1.0, "late", "quality", (-0.3, -0.2), reference=0.5),
    ]
    findings = build(swept=swept)
    told = [o for o in findings["observations"] if o.get("about") == "sweep"]
    assert [(o["name"], o["estimate"]) for o in told] == [
        ("sweep of strength: v 1 (η 1) minus no guidance: pixcorr", 0.25),
        ("sweep of strength: v 1 (η 1) minus no guidance: pixcorr", 0.25),
        ("sweep of strength: v 1 (η 1) minus no guidance: late", -0.25),
    ]
    assert told[0]["sentence"].startswith("As the guidance strength η grows to 1 at κ × 1: detail")


def test_a_variant_that_did_not_run_makes_no_claim():
    ran = {pair: ends for pair, ends in DIFFERENCES.items() if "wrong_image" not in pair}
    assert not [name for name in verdicts(build(ran)) if "wrong image" in name]


def test_without_a_threshold_the_number_is_an_observation():
    findings = build(settings=FindingSettings(early=("alexnet2",), late=("clip",)))
    assert len(findings["claims"]) == len(CLAIMS) + 1
    names = {entry["name"] for entry in findings["observations"]}
    assert "PixCorr of guided ground truth" in names
    assert all("holds" not in entry for entry in findings["observations"])


def test_metrics_that_nobody_named_are_observations_and_details_stay_in_the_tables():
    extra = {
        ("guided", "unguided", "ssim"): (0.1, 0.2),
        ("guided", "unguided", "brain_correlation_V1_images_per_voxel"): (0.1, 0.2),
    }
    names = [entry["name"] for entry in build(DIFFERENCES | extra)["observations"]]
    assert "guided minus unguided: SSIM" in names
    assert not [name for name in names if "IMAGES_PER_VOXEL" in name]


def test_brain_correlations_of_what_their_encoder_guided_say_so():
    extra = {
        (name, "unguided", metric): (0.1, 0.2)
        for name in ("brain_encoding", "color")
        for metric in ("brain_correlation_V1", "ssim")
    }
    names = [entry["name"] for entry in build(DIFFERENCES | extra)["observations"]]
    warned = "brain encoding minus unguided (guided by the encoder that scores it)"
    assert [name for name in names if "encoder" in name] == [f"{warned}: BRAIN_CORRELATION_V1"]
    assert "color minus unguided: BRAIN_CORRELATION_V1" in names


def test_the_mean_feature_stands_beside_the_decoder():
    names = [entry["name"] for entry in build()["observations"]]
    assert "Pearson r of subj01's mean feature instead of decoded guidance features" in names


def test_the_margin_of_late_layers_is_the_configured_one():
    strict = SETTINGS.model_copy(update={"late_margin": 0.01})
    found = verdicts(build(settings=strict))
    assert found["guided minus unguided loses less than 1.0 points: CLIP"] is False


def test_findings_are_plain_json_with_the_promised_keys():
    findings = build()
    assert json.loads(json.dumps(findings)) == findings
    keys = {"name", "estimate", "interval", "n", "counted", "unit", "is_difference", "p_holm"}
    keys |= {"holds", "sentence"}
    assert all(set(claim) == keys for claim in findings["claims"])


def test_sentences_are_written_from_the_numbers():
    claim = build()["claims"][0]
    assert claim["sentence"] == (
        "Guided minus unguided is above zero: PIXCORR (+0.085 [+0.050, +0.120] correlation, "
        "n = 50 images, p = 0.0015): holds."
    )
