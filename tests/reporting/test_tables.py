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
from neuraldiffuser.reporting import catalogue, tables
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
    wide = storage.read_table(PAPER / tables.TABLES[name].paper)
    published = make(world, name, experiment).entries.query("origin == 'paper'")
    for column, (metric, factor) in tables.PAPER_METRICS.items():
        if column in wide:
            found = published[published["metric"] == metric]["value"].to_numpy(float)
            np.testing.assert_allclose(found, wide[column] * factor, rtol=1e-12)


def test_elsewhere_no_number_is_compared_with_the_papers(world, experiment):
    for name in tables.TABLES:
        entries = make(world, name, experiment).entries
        assert entries["difference"].isna().all()
        assert entries["within"].isna().all()
        notes = entries[entries["origin"] == "paper"]["note"]
        assert set(notes) == {"as published, not comparable"}


def test_in_the_papers_experiment_differences_are_ours_minus_the_papers(world, paper_experiment):
    entries = make(world, "table2", paper_experiment).entries
    ours = entries[entries["origin"] == "ours"].set_index(["row", "metric"])
    theirs = entries[entries["origin"] == "paper"].set_index(["row", "metric"])
    place = ("κ 300\u202f000, η 0.2", "pixcorr")
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
    read = tables.read_table("table2", tmp_path / "table2.csv")
    assert (read.title, read.caption) == (made.title, made.caption)
    pd.testing.assert_series_equal(read.entries["value"], made.entries["value"].astype(float))
