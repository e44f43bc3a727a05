import json

import pandas as pd
import plotly.graph_objects
import pytest

from neuraldiffuser.reporting import figures, interactive, labels, style, sweep_figures
from neuraldiffuser.reporting import plots as picture_plots

HEADINGS = {"pixcorr": "PixCorr ↑", "ssim": "SSIM ↑"}


@pytest.fixture
def plots(drawn, experiment, tmp_path):
    """The plots of the invented figures, by name."""
    known = labels.choose_metrics(experiment)
    headings = {name: labels.heading(metric) for name, metric in known.items()}
    found = {}
    for name in interactive.PLOTS:
        path = tmp_path / f"{name}.csv"
        drawn[name].data.to_csv(path, index=False)
        found[name] = interactive.plot_figure(name, path, headings)
    return found


@pytest.mark.parametrize("name", sorted(interactive.PLOTS))
def test_plotly_accepts_every_plot_and_json_holds_it(plots, name):
    plotly.graph_objects.Figure(plots[name])  # refuses what it does not know
    json.dumps(plots[name], allow_nan=False)


def write(tmp_path, rows):
    path = tmp_path / "data.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def difference(metric, comparison, value):
    row = {"label": HEADINGS[metric], "comparison": comparison, "metric": metric}
    ends = {"difference": value, "low": value - 0.01, "high": value + 0.03, "n": 40}
    return row | ends | {"unit": "correlation", "p_holm": 0.27, "colour": "#123456"}


def test_points_stand_at_their_values_with_their_intervals(tmp_path):
    rows = [
        difference("pixcorr", "guided − unguided", 0.09),
        difference("ssim", "guided − unguided", 0.02),
        difference("pixcorr", "wrong image − unguided", -0.01),
    ]
    plot = interactive.plot_figure("differences", write(tmp_path, rows), HEADINGS)
    seen = {(t["name"], t["xaxis"]): t for t in plot["data"]}
    assert set(seen) == {
        ("guided − unguided", "x"),
        ("wrong image − unguided", "x"),
        ("guided − unguided", "x2"),
    }
    point = seen["guided − unguided", "x"]
    assert point["x"] == [0.09]
    assert point["error_x"]["array"] == pytest.approx([0.03])
    assert point["error_x"]["arrayminus"] == pytest.approx([0.01])
    assert point["hovertemplate"] == "+0.090 [+0.080, +0.120], n = 40 images, p = 0.27"
    titles = [title["text"] for title in plot["layout"]["annotations"]]
    assert titles == ["<b>PixCorr ↑</b>", "<b>SSIM ↑</b>"]


def test_a_name_stands_in_the_legend_once_and_is_hidden_everywhere(tmp_path):
    rows = [difference(metric, "guided − unguided", 0.1) for metric in HEADINGS]
    plot = interactive.plot_figure("differences", write(tmp_path, rows), HEADINGS)
    assert [trace["showlegend"] for trace in plot["data"]] == [True, False]
    assert {trace["legendgroup"] for trace in plot["data"]} == {"guided − unguided"}


def test_panels_do_not_overlap(plots):
    layout = plots["metrics"]["layout"]
    boxes = []
    for name, axis in layout.items():
        if name.startswith("xaxis"):
            (left, right), (low, high) = (
                axis["domain"],
                layout["y" + name[1:]]["domain"],
            )
            assert 0 <= left < right <= 1.0001 and -0.0001 <= low < high <= 1
            assert all(
                right <= other[0] or other[1] <= left or high <= other[2] or other[3] <= low
                for other in boxes
            )
            boxes.append((left, right, low, high))
    assert len(boxes) > 4


def test_where_lower_is_better_the_sweep_is_turned_over(plots):
    turned = [
        axis.get("autorange") == "reversed"
        for name, axis in plots["sweep"]["layout"].items()
        if name.startswith("yaxis")
    ]
    assert any(turned) and not all(turned)


def test_the_sweep_has_a_row_per_metric_and_a_column_per_line(plots):
    layout = plots["sweep"]["layout"]
    panels = [title["text"].strip("</b>").rsplit(", ", 1) for title in layout["annotations"]]
    assert [line for _, line in panels] == ["scale", "strength"] * (len(panels) // 2)
    assert [name for name, _ in panels[::2]] == [name for name, _ in panels[1::2]]
    assert layout["xaxis3"]["domain"] == layout["xaxis"]["domain"]


def test_long_curves_are_thinned_and_parts_wait_in_the_legend(tmp_path):
    rows = [
        {"panel": "z", "series": series, "subject": "subj01", "stage": "finetuned"}
        | {"step": step, "value": 1.0}
        for series in ("loss", "l1")
        for step in range(10_000)
    ]
    plot = interactive.plot_figure("training_curves", write(tmp_path, rows), {})
    loss, part = plot["data"]
    assert 100 < len(loss["x"]) <= interactive.MOST_POINTS
    assert (loss["visible"], part["visible"]) == (True, "legendonly")


def colours_of(plot):
    return {trace["name"]: trace["marker"]["color"] for trace in plot["data"]}


def test_every_name_has_the_colour_of_the_picture(plots, drawn, experiment):
    data = drawn["differences"].data
    assert colours_of(plots["differences"]) == figures.comparison_colours(data, experiment)
    variants = style.variant_colours(experiment.run)
    expected = {labels.label_variant(name): colour for name, colour in variants.items()}
    shown = colours_of(plots["metrics"])
    assert shown.pop("single subjects") == style.MUTED
    assert shown == expected
    brain = colours_of(plots["brain_correlation"])
    assert brain == {name: expected[name] for name in brain} and brain
    aspects = {look["label"]: look["color"] for look in sweep_figures.ASPECTS.values()}
    sweep = colours_of(plots["sweep"])
    assert {name: sweep[name] for name in sweep if name in aspects}.items() <= aspects.items()
    stages = {trace["line"]["color"] for trace in plots["training_curves"]["data"]}
    assert stages == {look["color"] for look in picture_plots.STAGE_LOOKS.values()}


def test_the_method_beside_its_baseline_comes_first(plots):
    assert plots["differences"]["data"][0]["name"] == "guided − unguided"


def test_single_subjects_are_drawn_as_the_caption_says(plots, drawn):
    assert "small grey marks are single subjects" in drawn["metrics"].caption
    data = drawn["metrics"].data.query("subject != 'all' and unit == 'correlation'")
    marks = [trace for trace in plots["metrics"]["data"] if trace["name"] == "single subjects"]
    seen = {value for trace in marks for value in trace["x"]}
    assert set(data["mean"].dropna()) <= seen


def test_metrics_without_a_value_or_a_note_are_left_out(drawn, tmp_path):
    data = drawn["metrics"].data.assign(note=None)
    data.loc[data["metric"] == "ssim", "mean"] = float("nan")
    data.to_csv(tmp_path / "metrics.csv", index=False)
    plot = interactive.plot_figure("metrics", tmp_path / "metrics.csv", HEADINGS)
    titles = [title["text"] for title in plot["layout"]["annotations"]]
    assert "<b>PixCorr ↑</b>" in titles and "<b>SSIM ↑</b>" not in titles
    assert len(titles) == data["metric"].nunique() - 1


def test_shares_stand_in_percent_and_their_differences_in_points(plots, drawn):
    titles = [title["text"] for title in plots["metrics"]["layout"]["annotations"]]
    assert "<b>Judge(lite_early) ↑ (%)</b>" in titles and "<b>PixCorr ↑</b>" in titles
    values = {v for t in plots["metrics"]["data"] for v in t["x"] if t["name"] == "guided"}
    data = drawn["metrics"].data.query("variant == 'guided' and subject == 'all'")
    (share,) = data.query("metric == 'lite_early'")["mean"]
    assert any(abs(value - 100 * share) < 1e-9 for value in values)
    titles = [title["text"] for title in plots["differences"]["layout"]["annotations"]]
    assert "<b>Judge(lite_early) ↑ (points)</b>" in titles
    told = [trace["hovertemplate"] for trace in plots["differences"]["data"]]
    assert any(" points, n = 12 images, p = 0.0015" in words for words in told)


def test_training_curves_have_ticks_at_1_2_and_5_and_name_their_axis(plots):
    layout = plots["training_curves"]["layout"]
    assert layout["yaxis"]["dtick"] == "D2" and layout["yaxis"]["exponentformat"] == "power"
    assert layout["xaxis"]["title"]["text"] == "steps"
    for trace in plots["training_curves"]["data"]:
        assert trace["legendrank"] == 1 + trace["name"].startswith("part of the loss")


def test_what_is_pending_has_no_plot(tmp_path):
    path = write(tmp_path, [{"pending": "not run"}])
    assert interactive.plot_figure("sweep", path, {}) is None
    assert interactive.plot_figure("examples", path, {}) is None
