"""What speaks against a finding is told: planted harm, planted gains of controls, a wrong scale."""

import pandas as pd
import pytest

from neuraldiffuser.evaluation.evidence import tell_evidence, tell_scale


def gain(features, metric, ends, *, direction="higher", unit="correlation", p_holm=0.08):
    variant = "guided" if features == "own" else f"{features}_guided"
    place = {"of": "guided", "variant": variant, "features": features, "reference": "unguided"}
    ends = {"difference": sum(ends) / 2, "low": ends[0], "high": ends[1], "n": 40}
    told = {"metric": metric, "label": metric.upper(), "unit": unit, "p_holm": p_holm}
    return place | ends | told | {"direction": direction}


UP, STILL, DOWN = (0.01, 0.03), (-0.01, 0.02), (-0.03, -0.01)
GAINS = [
    gain("own", "pixcorr", UP, p_holm=0.0015),
    gain("own", "clip", STILL),
    gain("own", "distance", UP, direction="lower"),
    gain("own", "brain_correlation_V1", UP),
    gain("own", "ssim_2d", DOWN),
    gain("another_image", "pixcorr", STILL),
    gain("another_image", "clip", UP, unit="share identified", p_holm=0.27),
    gain("another_image", "distance", DOWN, direction="lower"),
    gain("mean", "pixcorr", STILL),
    gain("mean", "clip", DOWN, unit="share identified"),
]


def tell(rows, guided_by_encoder=()):
    return list(tell_evidence(pd.DataFrame(rows), guided_by_encoder))


def test_what_guidance_worsens_is_told_and_named():
    row, sentence = tell(GAINS)[0]
    assert sentence == (
        "Beside no guidance, guided measurably improves 2 of 4 measures: PIXCORR (p = 0.0015) and "
        "brain correlation in BRAIN_CORRELATION_V1 (p = 0.08). It worsens DISTANCE +0.020 "
        "[+0.010, +0.030] (lower is better; p = 0.08)."
    )
    assert row["metric"] == "distance"


def test_what_a_control_gains_is_told_with_its_p():
    row, sentence = tell(GAINS)[1]
    assert sentence == (
        "The control, guided by another image's features, measurably improves CLIP +2.0 "
        "[+1.0, +3.0] points (p = 0.27) and DISTANCE −0.020 [−0.030, −0.010] (lower is better; "
        "p = 0.08) and worsens nothing. What it improves is not owed to the image's own features "
        "alone."
    )
    assert row["metric"] == "clip"


def test_controls_that_gain_nothing_are_told_so():
    assert tell(GAINS)[2][1] == (
        "The control, guided by the mean feature, measurably improves nothing and worsens CLIP "
        "−2.0 [−3.0, −1.0] points (p = 0.08)."
    )


def test_nothing_is_hidden_where_guidance_only_harms():
    _, sentence = tell([gain("own", "pixcorr", DOWN)])[0]
    assert sentence == (
        "Beside no guidance, guided measurably improves 0 of 1 measure. It worsens PIXCORR −0.020 "
        "[−0.030, −0.010] (p = 0.08)."
    )


def test_a_judge_that_guided_is_not_counted():
    assert "of 3 measures: PIXCORR (p = 0.0015). " in tell(GAINS, ["guided"])[0][1]


def decode(**r2):
    rows = [
        {"target": target, "measure": measure, "predictor": predictor, "value": value}
        for target, (own, mean) in r2.items()
        for measure, predictor, value in (
            ("r2_dimensions", "decoder", own),
            ("r2_dimensions", "mean_feature", mean),
            ("pearson_dimensions", "decoder", 0.77),
        )
    ]
    return pd.DataFrame(rows).assign(split="test", low=-2.0, high=0.5, n=40)


@pytest.mark.parametrize("target", ["clip_text", "clip_image_02"])
def test_targets_decoded_worse_than_by_their_mean_are_told(target):
    fine = {"vae_latent": (0.1, -0.04), "guidance": (-3.0, 0.0)}
    tables = {
        "subj01": decode(**{target: (-1.152, -0.036)}, **fine),
        "subj02": decode(**{target: (-0.02, -0.036)}, **fine),
    }
    what = {"clip_text": "the text embedding", "clip_image_02": "guidance layer 2"}[target]
    ((row, sentence),) = tell_scale(tables)
    assert sentence == (
        f"R² over images of {what} is −1.152 [−2.000, 0.500] (subj01; the mean feature has "
        "−0.036): in squared error, always answering with the mean feature is better. Pearson r is "
        "0.770: what is decoded follows the images, not their scale."
    )
    assert (row["subject"], row["target"]) == ("subj01", target)


def test_targets_decoded_better_than_by_their_mean_are_not():
    assert list(tell_scale({"subj01": decode(clip_text=(0.5, -0.03))})) == []
