"""What is said of the sweep follows its numbers: planted trends are told as they are."""

import pandas as pd
from evaluation.test_sweep import compare, invent, rise_and_fall

from neuraldiffuser.evaluation import trends


def sentences(effect, **kept):
    return [told.sentence for told in trends.tell_lines(compare(invent(effect, **kept)))]


def test_the_pattern_of_table_2_is_recognised():
    scale, details, _, _, strength, *_ = sentences(rise_and_fall)
    assert scale == (
        "As the guidance scale κ grows to × 10 at η 1: detail rises (2 of 2 measures, 2 of them "
        "fall again); content improves in 0 and worsens in 2 of 2 measures; quality falls (1 of 1 "
        "measure). This is the pattern of the paper's Table 2: detail rises, quality falls."
    )
    assert strength == (
        "As the guidance strength η grows to 1 at κ × 1: detail rises (2 of 2 measures); content "
        "improves in 0 and worsens in 2 of 2 measures; quality falls (1 of 1 measure). This is the "
        "pattern of the paper's Table 2: detail rises, quality falls."
    )
    assert details.startswith("Detail, beside no guidance, as κ grows: PixCorr improves (+0.2")
    assert " at κ × 1), then worsens (−0.1" in details


def test_without_any_effect_nothing_is_said_to_rise_or_fall():
    told = sentences(lambda *_: 0.0)[0]
    assert "detail does not rise measurably (0 of 2 measures)" in told
    assert "quality does not fall measurably (0 of 1 measure)" in told
    assert told.endswith(
        "It differs from the paper's Table 2: PixCorr does not rise, early does not rise and "
        "kernel (lower is better) does not fall measurably."
    )


def test_where_one_measure_departs_it_is_named():
    def early_falls(metric, variant):
        change = rise_and_fall(metric, variant)
        return -abs(change) if metric == "early" else change

    told = sentences(early_falls)
    assert "detail rises in part (1 of 2 measures, 1 of them falls again)" in told[0]
    assert told[0].endswith("the paper's Table 2: early does not rise measurably.")
    assert "early does not improve and worsens (−19.9 " in told[5]


def test_a_fall_from_a_best_point_that_is_no_gain_is_told_from_there():
    common = {"line": "strength", "fixed": 1.0, "variant": "v", "features": "own", "n": 30}
    common |= {"metric": "late", "label": "late", "unit": "index", "direction": "higher"}
    rows = [
        common | {"aspect": "content", "place": place, "reference_place": reference}
        for place, reference in ((0.5, 0.0), (1.0, 0.0), (1.0, 0.5))
    ]
    ends = [(0.01, -0.01, 0.03), (-0.01, -0.03, 0.01), (-0.02, -0.03, -0.01)]
    table = pd.DataFrame(rows).assign(
        difference=[e[0] for e in ends], low=[e[1] for e in ends], high=[e[2] for e in ends]
    )
    detail = table.assign(metric="pixcorr", label="PixCorr", aspect="detail")
    told = [told.sentence for told in trends.tell_lines(pd.concat([detail, table]))]
    assert told[2] == (
        "Content, beside no guidance, as η grows: late does not measurably improve, then worsens "
        "(−0.020 [−0.030, −0.010] from η 0.5 on; −0.010 [−0.030, +0.010] at η 1)."
    )


def test_without_a_measure_of_quality_none_is_told():
    values = {key: table.drop(columns="kernel") for key, table in invent(rise_and_fall).items()}
    told = [told.sentence for told in trends.tell_lines(compare(values))]
    assert len(told) == 2 * 3
    assert told[0].endswith("as in the paper's Table 2; quality was not measured by image.")


def test_a_control_is_no_point_of_the_line():
    def controls_shine(metric, variant):
        return 0.9 if variant.features != "own" else rise_and_fall(metric, variant)

    assert sentences(controls_shine) == sentences(rise_and_fall)
