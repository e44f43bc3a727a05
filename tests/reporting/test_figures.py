import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.reporting import catalogue, figures, plots, style
from neuraldiffuser.reporting.result import write_figure
from neuraldiffuser.reporting.sources import Sources

NUMBERS = sorted(set(catalogue.FIGURES) - {"examples", "figure8", "figure9", "figure10"})


def sources_of(world, name):
    return Sources({kind: world.paths(kind) for kind in catalogue.FIGURES[name]})


def test_the_catalogue_names_exactly_the_figures_that_can_be_drawn():
    assert set(catalogue.FIGURES) == set(figures.FIGURES)


@pytest.mark.parametrize("name", sorted(catalogue.FIGURES))
def test_every_figure_has_words_numbers_and_a_readable_picture(drawn, name):
    figure = drawn[name]
    assert figure.title and figure.caption.endswith(".") and figure.alt.endswith(".")
    assert len(figure.data)
    assert Image.open(io.BytesIO(figure.image)).format == "PNG"


@pytest.mark.parametrize("name", ["differences", "figure5", "figure10", "metrics"])
def test_drawing_again_gives_the_same_bytes(world, experiment, drawn, name):
    again = figures.FIGURES[name](sources_of(world, name), experiment)
    assert hashlib.sha256(again.image).digest() == hashlib.sha256(drawn[name].image).digest()
    pd.testing.assert_frame_equal(again.data, drawn[name].data)


@pytest.mark.parametrize("name", sorted(catalogue.FIGURES))
def test_without_data_a_figure_says_so_in_words(experiment, tmp_path, name):
    figure = figures.FIGURES[name](Sources(), experiment)
    write_figure(
        figure,
        path_to_image=tmp_path / "f.png",
        path_to_data=tmp_path / "f.csv",
        path_to_words=tmp_path / "f.json",
    )
    assert storage.read_json(tmp_path / "f.json")["pending"]


def points_of(ax):
    return {round(float(x), 9) for line in ax.lines for x in np.atleast_1d(line.get_xdata())}


def test_the_saved_numbers_are_the_points_of_the_plot(drawn, experiment):
    data = drawn["differences"].data
    _, (ax,) = style.new_figure()
    plots.plot_differences(data, ax=ax, colours=figures.comparison_colours(data, experiment))
    assert {round(value, 9) for value in data["difference"]} <= points_of(ax)
    ends = {round(float(x), 9) for c in ax.collections for s in c.get_segments() for x in s[:, 0]}
    assert ends == {round(float(x), 9) for x in [*data["low"], *data["high"]]}


def test_the_saved_numbers_are_the_bars_of_figure_5(drawn, experiment):
    data = drawn["figure5"].data.query("measure == 'r2'")
    _, (ax,) = style.new_figure()
    plots.plot_decoding(data, ax=ax, colours=figures.subject_colours(experiment.subjects))
    heights = sorted(round(float(bar.get_height()), 9) for bar in ax.patches)
    assert heights == sorted(round(value, 9) for value in data["value"])


def test_differences_are_those_of_the_comparisons(world, drawn):
    table = storage.read_table(world.paths("comparisons")[0]).set_index(
        ["variant_a", "variant_b", "metric"]
    )
    data = drawn["differences"].data
    assert set(data["comparison"]) == {
        "guided − unguided",
        "guided − wrong image",
        "wrong image − unguided",
    }
    for row in data.itertuples():
        assert row.difference == table.loc[(row.variant_a, row.variant_b, row.metric), "difference"]


def test_the_mean_feature_stands_beside_its_own_target_and_subject(world, drawn):
    data = drawn["figure5"].data
    for path in world.paths("decoding"):
        floor = storage.read_table(path).query("predictor == 'mean_feature'")
        for row in floor[floor["target"] != "guidance"].itertuples():
            place = (
                (data["target"] == row.target)
                & (data["measure"] == row.measure)
                & (data["subject"] == path.stem)
            )
            assert data[place]["mean_feature"].item() == row.value


def test_noise_ceilings_are_counted_voxel_by_voxel(world, drawn):
    data = drawn["noise_ceiling"].data
    for path in world.paths("voxels"):
        ceiling = storage.read_array(path, "voxel/noise_ceiling")
        part = data[data["subject"] == path.stem]
        assert part["voxels"].sum() == len(ceiling)
        assert part["mean"].iloc[0] == pytest.approx(np.mean(ceiling.astype(float)))


def test_encoder_accuracy_is_averaged_over_the_regions_voxels(world, drawn):
    path = world.paths("encoders")[0]
    roi, correlation = (storage.read_array(path, name) for name in ("roi", "correlation"))
    data = drawn["encoder_accuracy"].data.set_index(["subject", "series", "region"])["value"]
    by_hand = [float(c) for c, r in zip(correlation, roi, strict=True) if r in (1, 2)]
    assert data[path.stem, "encoder", "V1"] == pytest.approx(sum(by_hand) / len(by_hand))


@pytest.mark.parametrize("name", NUMBERS)
def test_alternative_texts_state_numbers(drawn, name):
    assert any(character.isdigit() for character in drawn[name].alt)


def test_a_metric_that_was_not_computed_says_why_in_its_panel(world, experiment, tmp_path):
    summary = storage.read_table(world.paths("summary")[0])
    fewer = summary["metric"] == "ssim"
    note = "not computed: 12 images, at least 1000 are needed"
    summary.loc[fewer, ["mean", "low", "high"]] = np.nan
    storage.write_table(tmp_path / "summary.csv", summary.assign(note=np.where(fewer, note, None)))
    sources = Sources({"summary": [tmp_path / "summary.csv"]})
    figure = figures.draw_metrics(sources, experiment)
    assert "SSIM not computed" in figure.alt and "nan" not in figure.alt
    part = figure.data[figure.data["metric"] == "ssim"]
    assert figures.explain_missing(part) == "not computed:\n12 images, at least 1000 are needed"
    assert figures.explain_missing(part.drop(columns="note")) == "not computed"
