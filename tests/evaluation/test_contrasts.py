"""Contrasts with the controls, against plain loops over images, with planted differences."""

import itertools
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from neuraldiffuser.config.evaluation import BootstrapSettings, RetrievalMeasure
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.contrasts import (
    compare_predictors,
    describe,
    list_pearson,
    list_retrieval,
    name_retrieval,
    summarise_predictors,
)

BOOTSTRAP = BootstrapSettings(draws=4000)
GUIDANCE_LAYERS = ("clip_image_02", "clip_image_04")
IDS = {  # two subjects share their test images but for one, and no validation image
    ("subj01", "test"): range(40),
    ("subj02", "test"): range(40, -1, -1),
    ("subj01", "validation"): [120, 121],
    ("subj02", "validation"): [130, 131],
}
OUTPUTS = [("decoder", "projection"), ("decoder", "embedding")]
OUTPUTS += [("scratch", "projection"), ("scratch", "embedding"), ("ridge", "embedding")]


@pytest.fixture
def retrieval():
    """Random successes of every image; images are tried unequally often."""
    generator = np.random.default_rng(0)
    rows = []
    for (subject, split), ids in IDS.items():
        for number in ids:
            trials = 1 + number % 3
            for output, method, direction in itertools.product(
                OUTPUTS, (*GUIDANCE_LAYERS, "clip_text", "vote"), ("image", "brain")
            ):
                key = (subject, split, number, *output, method, direction, "drawn")
                rows.append((*key, generator.integers(0, trials + 1), trials))
    columns = ["subject", "split", "id", "predictor", "output", "method", "direction", "pool"]
    return pd.DataFrame(rows, columns=[*columns, "successes", "trials"])


def rate(table, **wanted):
    """Successes per trial among the rows that fit."""
    for name, value in wanted.items():
        values = value if isinstance(value, tuple) else (value,)
        table = table[table[name].isin(values)]
    return table["successes"].sum() / table["trials"].sum()


def test_means_pool_layers_directions_and_subjects(retrieval):
    table = summarise_predictors(list_retrieval(retrieval), BOOTSTRAP)
    found = table.set_index(["split", "predictor", "measure"]).sort_index()
    test = {"split": "test", "predictor": "decoder", "output": "projection"}
    expected = {
        "image_retrieval_clip_text_drawn": rate(
            retrieval, **test, method="clip_text", direction="image"
        ),
        "both_retrieval_vote_drawn": rate(retrieval, **test, method="vote"),
        "brain_retrieval_layers_drawn": rate(
            retrieval, **test, method=GUIDANCE_LAYERS, direction="brain"
        ),
        "both_embedding_retrieval_layers_drawn": rate(
            retrieval, **test | {"output": "embedding"}, method=GUIDANCE_LAYERS
        ),
    }
    for measure, value in expected.items():
        assert found.loc[("test", "decoder", measure), "mean"] == pytest.approx(value)
    assert set(found.loc["test", "n"]) == {41}, "an image that two subjects saw counts once"
    assert set(found.loc["validation", "n"]) == {4}
    ridge = {"split": "test", "predictor": "ridge", "method": "vote"}
    assert found.loc[("test", "ridge", "both_retrieval_vote_drawn"), "mean"] == pytest.approx(
        rate(retrieval, **ridge)
    ), "ridge has no projection: it retrieves with its embedding"


def test_differences_are_paired_by_image_and_resampled_by_image(retrieval):
    table = compare_predictors(list_retrieval(retrieval), BOOTSTRAP)
    keys = ["split", "subject", "second", "measure"]
    row = table.set_index(keys).loc[("test", "all", "ridge", "image_retrieval_vote_drawn")]
    chosen = retrieval.query("split == 'test' and method == 'vote' and direction == 'image'")
    sums = {
        who: chosen[(chosen["predictor"] == who) & (chosen["output"] == output)]
        .groupby("id")[["successes", "trials"]]
        .sum()
        for who, output in (("decoder", "projection"), ("ridge", "embedding"))
    }
    gains = (sums["decoder"]["successes"] - sums["ridge"]["successes"]).to_numpy()
    trials = sums["decoder"]["trials"].to_numpy()
    generator = np.random.default_rng(1)
    drawn = generator.integers(0, 41, size=(20_000, 41))
    resampled = gains[drawn].sum(axis=1) / trials[drawn].sum(axis=1)
    assert row["difference"] == pytest.approx(gains.sum() / trials.sum())
    ends = np.quantile(resampled, [0.025, 0.975])
    np.testing.assert_allclose([row["low"], row["high"]], ends, atol=0.02)
    assert row["difference"] == pytest.approx(row["mean_first"] - row["mean_second"])
    assert row["n"] == 41


def test_every_subject_and_both_controls_are_compared(retrieval):
    table = compare_predictors(list_retrieval(retrieval), BOOTSTRAP)
    assert set(table["subject"]) == {"all", "subj01", "subj02"}
    assert set(table["second"]) == {"scratch", "ridge"}
    without = retrieval[retrieval["predictor"] != "scratch"]
    assert set(compare_predictors(list_retrieval(without), BOOTSTRAP)["second"]) == {"ridge"}
    alone = retrieval[retrieval["predictor"] == "decoder"]
    assert compare_predictors(list_retrieval(alone), BOOTSTRAP).empty


def decoded(gain):
    """Values per image of Pearson r: the decoder's are ``gain`` above ridge's, image by image."""
    generator = np.random.default_rng(2)
    rows = []
    for number in range(30):
        level = generator.normal()
        for target in ("clip_text", "guidance"):
            noise = 0.01 * generator.normal()
            for predictor, value in (("decoder", level + gain + noise), ("ridge", level)):
                row = ("subj01", "test", number, target, predictor, "pearson_dimensions", value)
                rows.append(row)
        rows.append(("subj01", "test", number, "clip_text", "ridge", "r2_dimensions", 9.0))
        rows.append(("subj01", "test", number, "vae_latent", "decoder", "pearson_dimensions", 0.0))
    columns = ["subject", "split", "id", "target", "predictor", "measure", "value"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize("gain", [-0.1, 0.1])
def test_pairing_finds_a_difference_far_smaller_than_the_spread_over_images(gain):
    table = compare_predictors(list_pearson(decoded(gain)), BOOTSTRAP)
    assert set(table["measure"]) == {"pearson_clip_text", "pearson_layers"}
    assert (np.sign(table[["low", "high"]]) == np.sign(gain)).all(axis=None)
    np.testing.assert_allclose(table["difference"], gain, atol=0.01)


def test_an_image_that_one_predictor_lacks_is_refused(retrieval):
    lacking = retrieval[(retrieval["predictor"] != "ridge") | (retrieval["id"] != 40)]
    with pytest.raises(DataError, match=r"the images 40 lack values of some predictor"):
        compare_predictors(list_retrieval(lacking), BOOTSTRAP)


def test_unequal_trials_are_refused(retrieval):
    unequal = (retrieval["predictor"] == "ridge") & (retrieval["id"] == 9)
    changed = retrieval.assign(trials=retrieval["trials"] + unequal)
    with pytest.raises(DataError, match=r"unequally often on the images 9;"):
        compare_predictors(list_retrieval(changed), BOOTSTRAP)


def test_every_measure_has_words_and_a_unit(retrieval):
    tables = [
        compare_predictors(list_retrieval(retrieval), BOOTSTRAP),
        compare_predictors(list_pearson(decoded(0)), BOOTSTRAP),
    ]
    for row in pd.concat(tables).itertuples():
        assert row.unit == ("correlation" if "pearson" in row.measure else "share identified")
    assert describe("image_retrieval_clip_text_all") == (
        "image retrieval by the text alone among all images"
    )
    assert describe("both_embedding_retrieval_clip_image_02_drawn") == (
        "retrieval in both directions of embeddings by layer 2 alone among drawn candidates"
    )


def test_whatever_pretraining_may_have_to_beat_is_measured_and_has_words(retrieval):
    fields = RetrievalMeasure.model_fields
    drawn, everybody = (retrieval.assign(pool=pool) for pool in ("drawn", "all"))
    measured = set(list_retrieval(pd.concat([drawn, everybody]))["measure"])
    for values in itertools.product(*(get_args(field.annotation) for field in fields.values())):
        name = name_retrieval(**dict(zip(fields, values, strict=True)))
        assert name in measured and describe(name)
