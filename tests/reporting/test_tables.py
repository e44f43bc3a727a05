import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from reporting.invented_results import configure

from neuraldiffuser import storage
from neuraldiffuser.config.decoder import Recipe
from neuraldiffuser.config.evaluation import Evaluation
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.config.report import Presentation, Report
from neuraldiffuser.reporting import catalogue, layout, published, tables
from neuraldiffuser.reporting.sources import Sources

PAPER = Path(__file__).parents[2] / "resources" / "paper_tables"


def make(world, name, experiment):
    sources = Sources({kind: world.paths(kind) for kind in catalogue.TABLES[name]})
    return tables.make_table(name, sources=sources, experiment=experiment, paper=PAPER)


@pytest.fixture
def paper_experiment(world):
    """The paper's own experiment, so that rows meet the paper's."""
    return Presentation(
        report=Report(),
        subjects=("subj01", "subj02"),
        variants=Reconstruction().variants,
        run=world.variants,
        judges=Evaluation().judges,
        identification=Evaluation().identification,
        brain_correlation=Evaluation().brain_correlation,
        interval_level=Evaluation().bootstrap.level,
    )


def test_every_table_of_the_catalogue_has_a_recipe():
    assert set(tables.TABLES) == set(catalogue.TABLES)


def test_ours_are_the_numbers_of_the_summary(world, experiment):
    summary = storage.read_table(world.paths("summary")[0]).set_index(
        ["variant", "subject", "metric"]
    )
    entries = make(world, "table3", experiment).entries
    ours = entries[(entries["origin"] == "ours") & ~entries["metric"].str.endswith("retrieval")]
    assert len(ours) == 2 * 13
    for entry in ours.itertuples():
        row = summary.loc[("guided", entry.row, entry.metric)]
        assert (entry.value, entry.low, entry.high) == (row["mean"], row["low"], row["high"])


def test_retrieval_is_that_of_the_vote(world, experiment):
    entries = make(world, "table3", experiment).entries.query("origin == 'ours'")
    chosen = entries[entries["metric"] == "image_retrieval"].set_index("row")
    for path in world.paths("retrieval"):
        table = storage.read_table(path).query(
            "split == 'test' and predictor == 'decoder' and pool == 'drawn' "
            "and method == 'vote' and direction == 'image'"
        )
        assert chosen.loc[path.stem, "value"] == table["accuracy"].item()


def test_retrieval_by_the_text_alone_stands_beside_the_papers(world, paper_experiment):
    entries = make(world, "retrieval_by_embedding", paper_experiment).entries
    ours = entries[entries["origin"] == "ours"].set_index(["row", "metric"])
    place = ("c (text) alone: decoder", "image_retrieval")
    table = storage.read_table(world.paths("predictors")[0])
    row = table.query(
        "split == 'test' and predictor == 'decoder' "
        "and measure == 'image_retrieval_clip_text_drawn'"
    )
    assert ours.loc[place, "value"] == row["mean"].item()
    assert ours.loc[place, "difference"] == pytest.approx(row["mean"].item() - 0.4975)
    others = ours.drop([place, (place[0], "brain_retrieval")])
    assert others["difference"].isna().all(), "the paper gives numbers of the text decoder alone"


def test_all_candidates_and_drawn_ones_are_different_columns(world, experiment):
    entries = make(world, "retrieval_by_embedding", experiment).entries.query("origin == 'ours'")
    table = storage.read_table(world.paths("predictors")[0]).query("split == 'test'")
    values = table.set_index(["predictor", "measure"])["mean"]
    found = entries.set_index(["row", "metric"])["value"]
    expected = values["ridge", "brain_retrieval_vote_all"]
    assert found["vote of all g layers: ridge regression", "brain_retrieval_all"] == expected
    assert found["chance", "image_retrieval"] == pytest.approx(1 / 8)
    assert found["chance", "brain_retrieval_all"] == pytest.approx(1 / world.images)
    assert len(entries) == 4 * (9 * 3 + 1)


VOXELS = (15724, 14278, 15226, 13153, 13039, 17907, 12682, 14386)  # nsdgeneral, subjects 1 to 8
LAYERS = (2, 4, 6, 8, 10, 12)
SHAPES = {"clip_text": (77, 768)} | {f"clip_image_{layer:02d}": (50, 768) for layer in LAYERS}
# Four blocks of the released mixer, each a norm and two layers of width 4096: never trained.
FROZEN = 4 * 2 * (4096 + 4096**2 + 4096) / 1e6
SIZES = {  # million weights in pretraining and for subject 1, with the decimals the paper cuts off
    "c (text)": (845.9, 497.9),
    "g (each layer)": (760.9, 412.9),
}


@pytest.fixture
def full_size_decoders(tmp_path):
    """Files that describe subject 1's decoders of the paper's size, without their weights."""
    counts = {f"subj{number:02d}": count for number, count in enumerate(VOXELS, start=1)}
    stages = {"finetuned": {"subj01": counts.pop("subj01")}, "pretrained": counts}
    for (target, shape), (stage, voxels) in itertools.product(SHAPES.items(), stages.items()):
        description = {"target": target, "shape": shape, "voxel_counts": voxels}
        storage.write_tensors(
            tmp_path / f"{target}/subj01/{stage}.safetensors",
            {"none": torch.zeros(1)},
            description | {"recipe": Recipe().model_dump(mode="json")},
        )
    return Sources({"decoders": sorted(tmp_path.glob("*/*/*"))})


def test_decoders_of_the_papers_size_have_its_weights(full_size_decoders, paper_experiment):
    table = tables.make_table(
        "decoder_sizes", sources=full_size_decoders, experiment=paper_experiment, paper=PAPER
    )
    ours = table.entries.query("origin == 'ours'").set_index(["row", "metric"])
    for number, stage in enumerate(("pretraining", "subject")):
        weights, trained = (ours.xs(f"{kind}_{stage}", level=1) for kind in ("weights", "trained"))
        for row, millions in SIZES.items():
            assert round(weights.loc[row, "value"], 1) == millions[number]
            assert 0 < weights.loc[row, "difference"] < 1, "the paper cuts decimals off"
            frozen = weights.loc[row, "value"] - trained.loc[row, "value"]
            assert frozen == pytest.approx(FROZEN)
        text, layer = (weights.loc[row, "value"] for row in SIZES)
        assert weights.loc["c and all g layers", "value"] == pytest.approx(text + 6 * layer)
        assert trained["difference"].isna().all(), "the paper gives none"


def test_every_weight_of_the_low_level_decoder_is_trained(world, experiment):
    entries = make(world, "decoder_sizes", experiment).entries.query("origin == 'ours'")
    counted = entries.set_index(["row", "metric"])["value"]
    for stage in ("pretraining", "subject"):
        latent = "z (VAE)"
        assert counted[latent, f"weights_{stage}"] == counted[latent, f"trained_{stage}"] > 0


@pytest.mark.parametrize("name", sorted(tables.TABLES))
def test_the_papers_values_are_those_of_its_files(world, experiment, name):
    theirs = make(world, name, experiment).entries.query("origin == 'paper'")
    papers = [storage.read_table(PAPER / file) for file in tables.TABLES[name].papers]
    papers = [
        wide.set_index(wide.columns[0])[["value"]].T if wide.columns[1] == "value" else wide
        for wide in papers
    ]
    for column, (metric, factor) in published.PAPER_METRICS.items():
        values = [value for wide in papers if column in wide for value in wide[column]]
        found = theirs[theirs["metric"] == metric]["value"].to_numpy(float)
        np.testing.assert_allclose(found, np.multiply(values, factor), rtol=1e-12)


def test_elsewhere_no_number_is_compared_with_the_papers(world, experiment):
    for name in tables.TABLES:
        entries = make(world, name, experiment).entries
        assert entries["difference"].isna().all()
        assert entries["within"].isna().all()
        notes = entries[entries["origin"] == "paper"]["note"]
        published_too = {"as published, not comparable"} if tables.TABLES[name].papers else set()
        assert set(notes) == published_too


def test_in_the_papers_experiment_differences_are_ours_minus_the_papers(world, paper_experiment):
    entries = make(world, "table2", paper_experiment).entries
    ours = entries[entries["origin"] == "ours"].set_index(["row", "metric"])
    theirs = entries[entries["origin"] == "paper"].set_index(["row", "metric"])
    place = ("guided (κ 300\u202f000, η 0.2)", "pixcorr")
    assert ours.loc[place, "difference"] == ours.loc[place, "value"] - 0.299
    assert theirs.loc[place, "value"] == 0.299
    inside = ours.loc[place, "low"] <= 0.299 <= ours.loc[place, "high"]
    assert ours.loc[place, "within"] == ("yes" if inside else "no")


def test_a_value_inside_the_interval_is_called_within():
    ours = pd.DataFrame(
        {"row": ["a", "a"], "metric": ["x", "y"], "value": [1.0, 1.0], "low": 0.5, "high": 1.5}
    )
    paper = pd.DataFrame({"row": ["a", "a"], "metric": ["x", "y"], "value": [1.4, 1.6]})
    assert list(tables.add_differences(ours, paper)["within"]) == ["yes", "no"]


def test_variants_that_were_not_run_are_named_as_pending(world, experiment):
    entries = make(world, "table2", experiment).entries
    pending = set(entries[entries["origin"] == "pending"]["row"])
    assert "mean feature" in pending
    assert "κ 3\u202f000, η 1" in pending
    assert "wrong image" not in pending


FURTHER = ("brain_encoding", "clip_and_color", "guided_best")


@pytest.fixture
def further(world, experiment, tmp_path):
    """The experiment with other functions and a selection, guided's numbers plus 1, 2, 3."""
    table = storage.read_table(world.paths("summary")[0])
    guided = table[table["variant"] == "guided"]
    copies = [
        guided.assign(variant=name, mean=guided["mean"] + number)
        for number, name in enumerate(FURTHER, start=1)
    ]
    storage.write_table(tmp_path / "summary.csv", pd.concat([table, *copies]))
    chosen = {"guided_best": experiment.variants["guided"]}
    changes = {"run": (*experiment.run, *FURTHER), "variants": experiment.variants | chosen}
    return [tmp_path / "summary.csv"], experiment.model_copy(update=changes)


def make_further(world, name, further):
    paths, experiment = further
    kinds = {kind: world.paths(kind) for kind in catalogue.TABLES[name]} | {"summary": paths}
    return tables.make_table(name, sources=Sources(kinds), experiment=experiment, paper=PAPER)


def test_other_functions_and_selections_stand_in_table_2_by_name(world, further):
    entries = make_further(world, "table2", further).entries.query("origin == 'ours'")
    values = entries[entries["metric"] == "pixcorr"].set_index("row")["value"]
    guided = values["guided (κ 300\u202f000, η 0.2)"]
    assert list(values.index) == [
        "unguided (κ 0)",
        "guided (κ 300\u202f000, η 0.2)",
        "guided, averaged as in the paper",
        "guided best: best repeat by decoded features",
        "CLIP layers + colours, η 0.2",
        "brain encoding, η 1",
        "wrong image",
    ]
    assert values["brain encoding, η 1"] == pytest.approx(guided + 1)
    assert values["CLIP layers + colours, η 0.2"] == pytest.approx(guided + 2)


def test_functions_that_were_not_run_are_not_missed_in_table_2(world, experiment):
    pending = make(world, "table2", experiment).entries.query("origin == 'pending'")["row"]
    assert not [row for row in pending if "encoding" in row or "colours" in row or "best" in row]


def test_the_best_of_five_stands_beside_the_mean_and_meets_no_published_number(world, further):
    entries = make_further(world, "table1", further).entries
    values = entries[entries["metric"] == "pixcorr"].set_index("row")["value"]
    ours = "guided best: best repeat by decoded features"
    theirs = "NeuralDiffuser, best of 5 (rule undefined in the paper)"
    assert values[theirs] == 0.343
    mean = entries.query(
        "origin == 'ours' and metric == 'pixcorr' and row == 'guided (NeuralDiffuser)'"
    )
    assert values[ours] == pytest.approx(mean["value"].item() + 3)


def test_table_4_shows_brain_encoding_beside_the_headline(world, further):
    summary = storage.read_table(further[0][0]).set_index(["variant", "subject", "metric"])["mean"]
    entries = make_further(world, "table4", further).entries.query("origin == 'ours'")
    values = entries.set_index(["row", "metric"])["value"]
    for subject in world.subjects:
        for row, variant in ((subject, "brain_encoding"), (f"{subject}, guided", "guided")):
            for metric in ("pixcorr", "brain_correlation_V1"):
                assert values[row, metric] == summary[variant, subject, metric]


@pytest.mark.parametrize("name", ["table2", "table4"])
def test_only_brain_correlations_of_what_their_encoder_guided_are_marked(world, further, name):
    table = make_further(world, name, further)
    entries = table.entries.query("origin == 'ours'")
    marked = entries[entries["note"] == tables.SCORED_BY_ITS_GUIDE]
    rows = {"table2": {"brain encoding, η 1"}, "table4": set(world.subjects)}[name]
    assert set(marked["row"]) == rows
    assert set(marked["group"]) == {"Brain correlation"}
    text = layout.to_markdown(table, comparable=False)
    assert text.count(" †") == len(marked) + 1
    assert "- † guided by the encoder that scores it" in text
    assert r"$\dagger$" in layout.to_latex(table, comparable=False)


@pytest.mark.parametrize(("identification", "expected"), [("takagi", 1), ("mindeye", 0)])
@pytest.mark.parametrize("name", ["table1", "table2"])
def test_identification_of_one_repeat_is_marked_where_others_have_all_together(
    world, further, name, identification, expected
):
    paths, experiment = further
    changed = experiment.model_copy(update={"identification": identification})
    table = make_further(world, name, (paths, changed))
    ours = table.entries.query("origin == 'ours'")
    of_selection = ours["row"].str.endswith("best repeat by decoded features")
    judges = ("lite_early", "lite_middle", "lite_pooled")
    identified = ours[of_selection & ours["metric"].isin(judges)]
    assert len(identified) == len(judges)
    marked = ours[ours["note"] == tables.OF_ONE_REPEAT]
    assert list(marked.index) == list(identified.index) * expected
    text = layout.to_markdown(table, comparable=False)
    assert text.count(" ‡") == len(marked) + expected
    assert ("- ‡ identified from one repeat" in text) == bool(expected)


@pytest.fixture
def judged(further, tmp_path):
    """The same where half of the voxels guided: the others' correlations are smaller by 0.01."""
    [path], experiment = further
    table = storage.read_table(path)
    brain = table[table["metric"].str.startswith("brain") & (table["variant"] != "unguided")]
    others = brain.assign(metric=brain["metric"] + "_judged", mean=brain["mean"] - 0.01)
    seen = brain[brain["variant"] == "guided"].assign(variant="stimulus", mean=0.9)
    seen = [seen, seen.assign(metric=seen["metric"] + "_judged", mean=0.8)]
    storage.write_table(tmp_path / "judged.csv", pd.concat([table, others, *seen]))
    return [tmp_path / "judged.csv"], experiment


@pytest.mark.parametrize("name", ["table2", "table4"])
def test_voxels_that_guide_nothing_judge_every_variant(world, judged, name):
    table = make_further(world, name, judged)
    entries = table.entries.query("origin == 'ours' and metric == 'brain_correlation_V1'")
    apart = entries[~entries["row"].str.endswith("averaged as in the paper")]
    assert set(apart["note"]) == {"over the voxels that guide no variant"}
    assert apart[apart["row"].str.endswith("the stimulus itself")]["value"].eq(0.8).all()
    text = layout.to_markdown(table, comparable=False)
    assert "†" not in text
    assert "over the voxels that guide no variant.\n" in text
    summary = storage.read_table(judged[0][0]).set_index(["variant", "subject", "metric"])["mean"]
    who, row = {"table2": ("all", "brain encoding, η 1"), "table4": ("subj02", "subj02")}[name]
    found = apart.set_index("row")["value"][row]
    assert found == summary["brain_encoding", who, "brain_correlation_V1_judged"]


def test_where_no_encoder_guided_all_voxels_judge(world, experiment, judged):
    table = make_further(world, "table2", (judged[0], experiment))
    entries = table.entries.query("origin == 'ours' and metric == 'brain_correlation_V1'")
    assert entries.set_index("row")["value"]["the stimulus itself"] == 0.9
    assert entries[entries["row"] != "brain encoding, η 1"]["note"].isna().all()


def test_ways_to_average_stand_beside_each_other(world, experiment):
    table = make(world, "table1", experiment)
    values = table.entries.query("origin == 'ours' and metric == 'pixcorr'").set_index("row")
    ways = ["guided (NeuralDiffuser)", "guided, averaged as in the paper"]
    ways.append("guided, best of 5 by each metric itself")
    assert list(values.index) == ways
    np.testing.assert_allclose(values["value"] - values["value"].iloc[0], [0, 0.001, 0.05])
    cells = {
        line.label: line.cells[0].text
        for line in layout.lay_out_parts(table, comparable=False)[0].lines
    }
    assert cells[ways[1]].endswith(" ± 0.012")
    assert " § [" in cells[ways[2]]
    text = layout.to_markdown(table, comparable=False)
    assert "- § of the best repeat of each image by this very metric" in text
    assert r"$\pm$ 0.012" in layout.to_latex(table, comparable=False)


def test_in_table_2_the_headline_alone_is_averaged_twice(world, experiment):
    entries = make(world, "table2", experiment).entries.query("origin == 'ours'")
    twice = entries[entries["row"].str.endswith("averaged as in the paper")]
    assert set(twice["row"]) == {"guided, averaged as in the paper"}
    assert not entries["row"].str.contains("by each metric itself").any()
    assert len(twice) == 13


def test_retrieval_in_table_1_has_the_interval_over_images(world, experiment):
    entries = make(world, "table1", experiment).entries.set_index(["row", "metric"])
    found = entries.loc[("guided (NeuralDiffuser)", "brain_retrieval")]
    table = storage.read_table(world.paths("predictors")[0])
    row = table.query(
        "split == 'test' and predictor == 'decoder' and measure == 'brain_retrieval_vote_drawn'"
    ).iloc[0]
    assert found[["value", "low", "high"]].tolist() == row[["mean", "low", "high"]].tolist()


def test_notes_of_numbers_stand_below_with_the_metrics_that_have_them():
    columns = ["origin", "row", "metric", "label", "value", "note", "difference"]
    rows = [
        ("ours", "a", "x", "X", 1.0, "40 of 48 images", None),
        ("ours", "b", "x", "X", 1.0, "40 of 48 images", None),
        ("ours", "a", "y", "Y", 1.0, "40 of 48 images", None),
        ("ours", "a", "z", "Z", None, "not computed: no weights", None),
        ("ours", "b", "z", "Z", None, None, None),
        ("ours", "a", "w", "W", 1.0, tables.OF_ONE_REPEAT, None),
    ]
    entries = pd.DataFrame(rows, columns=columns)
    notes = layout.list_notes(tables.Table("", "", entries))
    assert notes == [
        f"‡ {tables.OF_ONE_REPEAT}.",
        "X; Y: 40 of 48 images.",
        "Z: not computed: no weights.",
        "Z: not computed.",
    ]


def test_without_an_encoder_that_guides_nothing_is_marked(world, experiment):
    assert "†" not in layout.to_markdown(make(world, "table2", experiment), comparable=False)


def test_brain_guidance_is_pending_for_every_subject(world, experiment):
    entries = make(world, "table4", experiment).entries
    assert list(entries[entries["origin"] == "pending"]["row"]) == ["subj01", "subj02"]


def test_the_headline_variant_decides_what_tables_1_and_3_show(world):
    shown = {
        name: make(world, "table3", configure(world, headline=name).presentation)
        .entries.query("origin == 'ours' and metric == 'pixcorr'")["value"]
        .tolist()
        for name in ("guided", "unguided")
    }
    assert shown["guided"] != shown["unguided"]


def test_the_metrics_setting_chooses_and_orders(world):
    chosen = configure(world, metrics=("ssim", "pixcorr")).presentation
    entries = make(world, "table2", chosen).entries.query("origin == 'ours'")
    assert list(dict.fromkeys(entries["metric"])) == ["ssim", "pixcorr"]


def test_a_table_comes_back_from_its_file(world, experiment, tmp_path):
    made = make(world, "table2", experiment)
    storage.write_table(tmp_path / "table2.csv", made.entries)
    read = tables.read_table("table2", tmp_path / "table2.csv", experiment)
    assert (read.title, read.caption) == (made.title, made.caption)
    pd.testing.assert_series_equal(read.entries["value"], made.entries["value"].astype(float))


def test_brain_correlation_stands_both_ways_and_as_a_share_of_the_ceiling(world, experiment):
    table = make(world, "brain_conventions", experiment)
    summary = storage.read_table(world.paths("summary")[0]).query("subject == 'all'")
    values = summary.set_index(["variant", "metric"])["mean"]
    names = {"the stimulus itself": "stimulus", "guided": "guided", "unguided": "unguided"}
    names |= {"wrong image": "wrong_image"}
    assert list(dict.fromkeys(table.entries["row"])) == list(names)
    assert len(table.entries) == len(names) * 6 * 2 * 2
    for entry in table.entries.itertuples():
        assert entry.value == values[names[entry.row], entry.metric]
        assert entry.group.startswith(
            "Over images" if "images_per_voxel" in entry.metric else "Over voxels"
        )
        assert entry.group.endswith("ceiling") == entry.metric.endswith("of_ceiling")
    text = layout.to_markdown(table, comparable=False)
    assert "Over images, for each voxel: share of the noise ceiling: V1 (%) ↑" in text


def test_voxels_that_guide_nothing_judge_both_ways_too(world, further, tmp_path):
    [path], experiment = further
    table = storage.read_table(path)
    brain = table[table["metric"].str.contains("_per_")]
    others = brain.assign(metric=brain["metric"] + "_judged", mean=brain["mean"] - 0.1)
    plain = brain.assign(metric="brain_correlation_V1_judged").drop_duplicates("variant")
    storage.write_table(tmp_path / "judged.csv", pd.concat([table, others, plain]))
    entries = make_further(
        world, "brain_conventions", ([tmp_path / "judged.csv"], experiment)
    ).entries
    assert entries["metric"].str.endswith("_judged").all()
    assert set(entries["note"]) == {"over the voxels that guide no variant"}


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "brain_conventions"])
def test_captions_say_what_brackets_are(world, experiment, name):
    changed = experiment.model_copy(update={"interval_level": 0.9})
    told = f"Brackets: 90 % bootstrap intervals over {world.images} test images."
    assert told in make(world, name, changed).caption
    assert "Brackets" not in make(world, "decoder_sizes", experiment).caption


@pytest.mark.parametrize("name", ["table2", "table3"])
def test_captions_say_which_way_round_brain_correlation_is(world, experiment, name):
    assert "is shown over voxels, for each image; over images" in (
        make(world, name, experiment).caption
    )
    turned = experiment.model_copy(update={"brain_correlation": "images_per_voxel"})
    assert "is shown over images, for each voxel; over voxels" in make(world, name, turned).caption


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_a_row_has_the_variants_name_and_the_papers_beside_it(world, experiment, name):
    entries = make(world, name, experiment).entries
    rows = {origin: set(part["row"]) for origin, part in entries.groupby("origin")}
    ours, theirs = {
        "table1": ("guided (NeuralDiffuser)", "NeuralDiffuser"),
        "table2": ("unguided (κ 0)", "κ 0"),
    }[name]
    assert ours in rows["ours"] and theirs not in rows["ours"]
    assert theirs in rows["paper"] and ours not in rows["paper"]
