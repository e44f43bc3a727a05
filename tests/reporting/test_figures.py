import hashlib
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.reporting import catalogue, decoder_figures, figures, labels, plots, style
from neuraldiffuser.reporting.result import write_figure
from neuraldiffuser.reporting.sources import Sources

NUMBERS = sorted(
    set(catalogue.FIGURES) - {"examples", *(f"figure{n}" for n in (6, 7, 8, 9, 10, 11))}
)


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
def test_nothing_of_a_figure_is_cut_off_at_its_edges(world, experiment, name, monkeypatch):
    outside = []

    def measure(figure):
        figure.draw_without_rendering()
        page = figure.bbox.padded(1)
        for legend in [*figure.legends, *(ax.get_legend() for ax in figure.axes)]:
            box = legend and legend.get_window_extent()
            if box and not (page.contains(*box.min) and page.contains(*box.max)):
                outside.append([text.get_text() for text in legend.get_texts()])
        return encode(figure)

    encode = style.encode_figure
    monkeypatch.setattr(style, "encode_figure", measure)
    figures.FIGURES[name](sources_of(world, name), experiment)
    assert not outside


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
    data = drawn["figure5"].data.query("measure == 'r2_dimensions'")
    _, (ax,) = style.new_figure()
    plots.plot_decoding(data, ax=ax, colours=decoder_figures.subject_colours(experiment.subjects))
    heights = sorted(round(float(bar.get_height()), 9) for bar in ax.patches)
    assert heights == sorted(round(value, 9) for value in data["value"])


def test_no_value_of_figure_5_is_hidden(drawn, experiment):
    data = drawn["figure5"].data.query("measure == 'r2_dimensions'").reset_index(drop=True)
    data.loc[2, ["value", "scratch"]] = [-1.15, -4.48]
    _, (ax,) = style.new_figure()
    plots.plot_decoding(data, ax=ax, colours=decoder_figures.subject_colours(experiment.subjects))
    low, high = ax.get_ylim()
    marks = [y for line in ax.lines for y in np.atleast_1d(line.get_ydata())]
    assert low < -4.48 and -4.48 in marks and high == 1
    assert ax.get_yscale() == "symlog"


def test_targets_predicted_worse_than_their_mean_are_named(world, experiment, tmp_path):
    table = storage.read_table(world.paths("decoding")[0])
    chosen = table["target"].eq("clip_text") & table["measure"].eq("r2_dimensions")
    table.loc[chosen & table["predictor"].eq("decoder"), "value"] = -1.152
    table.loc[chosen & table["predictor"].eq("mean_feature"), "value"] = -0.036
    storage.write_table(tmp_path / "subj01.csv", table)
    figure = decoder_figures.draw_decoding(
        Sources({"decoding": [tmp_path / "subj01.csv"]}), experiment
    )
    told = "predicted worse than by the mean feature: c (text) of subj01 (−1.152 against −0.036)."
    assert told in figure.caption and told in figure.alt


def test_p_is_told_with_the_differences(drawn):
    assert "PixCorr +" in drawn["differences"].alt and "(p = 0.0015)" in drawn["differences"].alt
    assert " points (p = " in drawn["differences"].alt
    assert "Intervals: 95 %, unadjusted, 12 images" in drawn["differences"].caption


def test_the_convention_of_brain_correlation_is_told(drawn):
    assert "is shown over voxels, for each image" in drawn["brain_correlation"].caption


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


@pytest.mark.parametrize("predictor", ["ridge", "scratch", "mean_feature"])
def test_each_predictor_stands_beside_its_own_target_and_subject(world, drawn, predictor):
    data = drawn["figure5"].data.set_index(["target", "measure", "subject"])[predictor]
    checked = 0
    for path in world.paths("decoding"):
        table = storage.read_table(path).query("split == 'test' and predictor == @predictor")
        for row in table[table["target"] != "guidance"].itertuples():
            if row.measure in decoder_figures.MEASURES:
                assert data[row.target, row.measure, path.stem] == row.value
                checked += 1
    assert checked == data.notna().sum() > 0
    assert data["vae_latent"].isna().all() == (predictor == "scratch")


def test_decoding_without_controls_is_drawn_without_their_marks(world, experiment, tmp_path):
    paths = []
    for path in world.paths("decoding"):
        table = storage.read_table(path)
        paths.append(tmp_path / path.name)
        alone = table[table["predictor"].isin(("decoder", "mean_feature"))]
        storage.write_table(paths[-1], alone)
    figure = figures.FIGURES["figure5"](Sources({"decoding": paths}), experiment)
    assert "ridge" not in figure.data and "ridge regression" not in figure.alt


def test_retrieval_shows_test_images_by_what_each_predictor_retrieves_with(world, drawn):
    table = storage.read_table(world.paths("predictors")[0]).query("split == 'test'")
    means = table.set_index(["predictor", "measure"])["mean"]
    data = drawn["retrieval"].data
    assert len(data) == 2 * 2 * 9 * 3  # pools, directions, methods, predictors
    assert list(data["method"].unique()[:3]) == [
        "c (text) alone",
        "vote of all g layers",
        "single g layers (mean)",
    ]
    names = {labels.label_method(m): m for m in ("clip_text", "vote", "layers", "clip_image_06")}
    for row in data[data["method"].isin(names)].itertuples():
        measure = f"{row.direction}_retrieval_{names[row.method]}_{row.pool}"
        assert row.mean == pytest.approx(100 * means[row.predictor, measure])
    chances = data.drop_duplicates("pool").set_index("pool")[["chance", "candidates"]]
    assert chances.loc["drawn"].tolist() == [pytest.approx(100 / 8), 8]
    assert chances.loc["all"].tolist() == [pytest.approx(100 / world.images), world.images]


def test_differences_from_the_controls_are_those_of_the_comparisons(world, drawn):
    table = storage.read_table(world.paths("predictor_comparisons")[0])
    table = table.set_index(["split", "second", "measure"])
    data = drawn["predictor_differences"].data
    assert set(data["comparison"]) == {"decoder − from scratch", "decoder − ridge regression"}
    assert set(data["split"]) == {"test", "validation"}
    assert list(dict.fromkeys(data["measure"])) == list(decoder_figures.CONTRASTED)
    assert data["label"].nunique() == len(decoder_figures.CONTRASTED)
    for row in data.itertuples():
        assert row.difference == table.loc[(row.split, row.second, row.measure), "difference"]


def test_curves_are_thinned_to_means_over_consecutive_steps():
    steps = np.arange(1000)
    curve = pd.DataFrame({"step": steps, "learning_rate": 1e-3, "loss": steps**2})
    thin = decoder_figures.thin_curve(curve, points=100)
    assert len(thin) == 100
    np.testing.assert_allclose(thin["loss"][3], np.mean(steps[30:40] ** 2))
    np.testing.assert_allclose(thin["step"][3], 34.5)
    assert len(decoder_figures.thin_curve(curve.head(7), points=100)) == 7


def test_curves_show_every_part_of_every_loss_and_one_learning_rate(world, drawn):
    data = drawn["training_curves"].data
    parts = data.groupby("target")["series"].unique().map(set)
    assert parts["vae_latent"] >= {"loss", "l1"}
    assert parts["clip_text"] >= {"loss", "contrastive", "prior"}
    rates = data[data["panel"] == "learning rate"]
    assert not rates.duplicated(["subject", "stage", "step"]).any()
    assert set(data["stage"]) == {"pretrained", "finetuned", "scratch"}
    path = world.results / "controls/scratch/clip_text/subj02_curve.csv"
    first = storage.read_table(path)["prior"].head(6).mean()
    chosen = data.query(
        "target == 'clip_text' and subject == 'subj02' and stage == 'scratch' and series == 'prior'"
    )
    assert chosen["value"].iloc[0] == pytest.approx(first)


def test_noise_ceilings_are_counted_voxel_by_voxel(world, drawn):
    data = drawn["noise_ceiling"].data
    for path in world.paths("voxels"):
        ceiling = storage.read_array(path, "voxel/noise_ceiling")
        part = data[data["subject"] == path.stem]
        assert part["voxels"].sum() == len(ceiling)
        assert part["mean"].iloc[0] == pytest.approx(np.mean(ceiling.astype(float)))


def test_encoder_accuracy_is_that_of_its_table(world, drawn):
    path = world.paths("encoders")[0]
    table = storage.read_table(path).set_index("area")
    subject = path.stem.removesuffix("_accuracy")
    data = drawn["encoder_accuracy"].data.set_index(["subject", "series", "region"])["value"]
    assert data[subject, "encoder", "V4"] == table.loc["hV4", "correlation"]
    assert data[subject, "noise ceiling", "Higher Vis."] == table.loc["higher_visual", "ceiling"]
    assert "The images: invented images." in drawn["encoder_accuracy"].caption
    tables = [storage.read_table(path).set_index("area") for path in world.paths("encoders")]
    share = np.mean([table.loc["V1", "fraction"] for table in tables])
    assert f"they reach: V1 {100 * share:.1f} %" in drawn["encoder_accuracy"].caption


def test_training_images_of_encoders_are_not_drawn(world, experiment, tmp_path):
    path = tmp_path / "subj01_accuracy.csv"
    table = storage.read_table(world.paths("encoders")[0])
    storage.write_table(path, pd.concat([table, table.assign(split="held_out", correlation=9.0)]))
    drawn = figures.draw_encoder_accuracy(Sources({"encoders": [path]}), experiment)
    assert drawn.data["value"].max() < 1


@pytest.mark.parametrize("name", NUMBERS)
def test_alternative_texts_state_numbers(drawn, name):
    assert any(character.isdigit() for character in drawn[name].alt)


def test_identification_of_one_repeat_is_not_drawn_beside_that_of_all(world, experiment, tmp_path):
    table = storage.read_table(world.paths("summary")[0])
    best = table[table["variant"] == "guided"].assign(variant="guided_best")
    storage.write_table(tmp_path / "summary.csv", pd.concat([table, best]))
    variants = experiment.variants | {"guided_best": experiment.variants["guided"]}
    changes = {"run": (*experiment.run, "guided_best"), "variants": variants}
    drawn = {}
    for rule in ("takagi", "mindeye"):
        changed = experiment.model_copy(update=changes | {"identification": rule})
        figure = figures.FIGURES["metrics"](
            Sources({"summary": [tmp_path / "summary.csv"]}), changed
        )
        drawn[rule] = set(figure.data.query("variant == 'guided_best'")["metric"])
    assert drawn["mindeye"] - drawn["takagi"] == {"lite_early", "lite_middle", "lite_pooled"}
    assert "pixcorr" in drawn["takagi"]


def test_brain_correlations_are_drawn_without_the_sweep_and_with_controls_of_the_method(experiment):
    shipped = {"color", "brain_encoding", "wrong_image"}
    further = {
        "wrong_image_color": {"guidance": "color", "scale": "color", "features": "another_image"},
        "mean_feature_strength_100": {"scale": "guided", "strength": 1.0, "features": "mean"},
    }
    variants = experiment.variants | {name: Variant(**one) for name, one in further.items()}
    run = (*experiment.run, *further, *sorted(shipped), "scale_100_strength_100")
    changed = experiment.model_copy(update={"run": run, "variants": variants})
    shown = {n for n in figures.list_beside_sweep(changed) if variants[n].source == "brain"}
    assert shown == {*experiment.brain_variants(), *shipped}


def test_a_metric_that_was_not_computed_says_why_in_its_panel(world, experiment, tmp_path):
    summary = storage.read_table(world.paths("summary")[0])
    fewer = summary["metric"] == "ssim"
    note = "not computed: 12 images, at least 1000 are needed"
    summary.loc[fewer, ["mean", "low", "high"]] = np.nan
    storage.write_table(tmp_path / "summary.csv", summary.assign(note=np.where(fewer, note, None)))
    sources = Sources({"summary": [tmp_path / "summary.csv"]})
    figure = figures.draw_metrics(sources, experiment)
    assert "Without a value: SSIM (not computed: 12 images, at least 1000 are needed)." in (
        figure.caption
    )
    assert "SSIM not computed" in figure.alt and "nan" not in figure.alt
    part = figure.data[figure.data["metric"] == "ssim"]
    assert figures.explain_missing(part) == "not computed:\n12 images, at least 1000 are needed"
    assert figures.explain_missing(part.drop(columns="note")) == "not computed"
