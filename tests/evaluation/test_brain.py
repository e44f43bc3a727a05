"""Brain correlation in both directions, against scipy, with planted signals."""

import numpy as np
import pytest
import scipy.stats

from neuraldiffuser.config.guidance import EncoderSettings
from neuraldiffuser.diffusion.guidance.encoder import choose_guiding_voxels
from neuraldiffuser.encoding.accuracy import correlate_voxels
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.brain import (
    BRAIN_CORRELATIONS,
    Ceilings,
    find_areas,
    measure_brain,
    rows_of,
)
from neuraldiffuser.evaluation.metrics import AREAS, METRICS, brain_metric

LABELS = np.repeat([0, 1, 2, 3, 5, 7], 4)  # higher, V1v, V1d, V2v, V3v, hV4
CEILING = np.linspace(10, 60, len(LABELS))


@pytest.fixture
def responses():
    generator = np.random.default_rng(0)
    measured = generator.normal(size=(10, len(LABELS))).astype(np.float32)
    noise = generator.normal(size=(10, 3, len(LABELS))).astype(np.float32)
    return measured, measured[:, None] + noise


def measure(measured, predicted, *, labels=LABELS, percent=CEILING, trials=3, judging=None):
    """As the script calls it; by default every voxel guides, so that no part of them judges."""
    count = measured.shape[1]
    return measure_brain(
        measured,
        predicted,
        labels=labels,
        ceilings=Ceilings(percent=percent, trials=np.broadcast_to(trials, len(measured))),
        judging=np.zeros(count, bool) if judging is None else judging,
    )


def test_areas_are_unions_of_their_labels_and_values_are_scipys(responses):
    measured, predicted = responses
    found = measure(measured, predicted)
    for area, labels in {"V1": (1, 2), "hV4": (7,), "higher_visual": (0,)}.items():
        mask = np.isin(LABELS, labels)
        for image, repeat in np.ndindex(10, 3):
            expected = scipy.stats.pearsonr(measured[image, mask], predicted[image, repeat, mask])
            value = found[brain_metric(area, "voxels_per_image")][image, repeat]
            assert value == pytest.approx(expected.statistic, abs=1e-6)
        for repeat in range(3):
            columns = zip(measured[:, mask].T, predicted[:, repeat, mask].T, strict=True)
            expected = np.mean([scipy.stats.pearsonr(a, b).statistic for a, b in columns])
            value = found[brain_metric(area, "images_per_voxel")][:, repeat].mean()
            assert value == pytest.approx(expected, abs=1e-6)


def test_every_area_and_direction_is_measured_and_described(responses):
    found = measure(*responses)
    names = {brain_metric(area, way) for area in AREAS for way in BRAIN_CORRELATIONS}
    assert names < set(found) < set(METRICS)


@pytest.mark.parametrize("direction", BRAIN_CORRELATIONS)
def test_the_true_response_is_best_and_shuffled_images_are_at_chance(direction):
    generator = np.random.default_rng(1)
    measured = generator.normal(size=(200, len(LABELS))).astype(np.float32)
    name = brain_metric("nsdgeneral", direction)
    assert measure(measured, measured[:, None])[name].mean() == pytest.approx(1)
    shuffled = np.roll(measured, 1, axis=0)[:, None]
    assert measure(measured, shuffled)[name].mean() == pytest.approx(0, abs=0.05)


def test_the_directions_answer_different_questions(responses):
    # A pattern over voxels that all images share is rewarded within an image, not across images.
    measured, _ = responses
    common = np.linspace(-5, 5, len(LABELS), dtype=np.float32)
    predicted = np.random.default_rng(2).normal(size=(10, 1, len(LABELS))).astype(np.float32)
    found = measure(measured + common, predicted + common)
    assert found[brain_metric("nsdgeneral", "voxels_per_image")].mean() > 0.8
    assert abs(found[brain_metric("nsdgeneral", "images_per_voxel")].mean()) < 0.3


# --- the noise ceiling ---


def respond(percent, trials, *, images=400, seed=3):
    """Signals and means over trials of voxels whose single trials have variance 1."""
    generator = np.random.default_rng(seed)
    share = percent / 100
    ratio = share / (1 - share) / 3  # signal's variance over the noise of one trial
    signal = generator.normal(size=(images, len(percent))) * np.sqrt(ratio / (1 + ratio))
    counts = np.resize(trials, images)
    noise = generator.normal(size=signal.shape) * np.sqrt(1 / (1 + ratio)) / counts[:, None] ** 0.5
    return signal, signal + noise, counts


UNEQUAL = 100 * np.random.default_rng(7).beta(0.9, 1.3, 1500).clip(0, 0.9)


@pytest.mark.parametrize("direction", BRAIN_CORRELATIONS)
@pytest.mark.parametrize("trials", [[3], [3, 3, 2, 2, 1]], ids=["three", "mixed"])
@pytest.mark.parametrize("percent", [np.full(1500, 30.0), UNEQUAL], ids=["equal", "unequal"])
def test_a_perfect_model_reaches_the_ceiling(direction, trials, percent):
    signal, measured, counts = respond(percent, trials)
    labels = np.ones(len(percent), int)
    found = measure(measured, signal[:, None], labels=labels, percent=percent, trials=counts)
    share = found[brain_metric("V1", direction, of_ceiling=True)].mean()
    assert share == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("value", [np.nan, -1.0, 101.0])
def test_ceilings_that_are_no_percentages_are_refused(value):
    percent = np.array([10.0, value, value])
    with pytest.raises(DataError) as error:
        Ceilings(percent=percent, trials=np.array([3]))
    assert str(error.value) == (
        "2 of 3 voxels have a noise ceiling that is no number from 0 to 100; delete the subject's "
        "voxels and run the workflow again."
    )


def test_voxels_of_noise_have_no_share_of_a_ceiling(responses):
    found = measure(*responses, percent=np.zeros(len(LABELS)))
    assert found and not [name for name in found if "of_ceiling" in name]


def test_encoders_are_measured_against_the_same_ceiling():
    signal, measured, counts = respond(UNEQUAL, [3, 2, 1], images=4000)
    shares = Ceilings(percent=UNEQUAL, trials=counts).shares
    assert correlate_voxels(signal, measured).mean() == pytest.approx(
        np.sqrt(shares).mean(), abs=0.005
    )


# --- voxels that judge ---


def test_voxels_that_guide_nothing_judge_alone(responses):
    measured, predicted = responses
    judging = np.arange(len(LABELS)) % 4 < 3
    found = measure(measured, predicted, judging=judging)
    alone = measure(
        measured[:, judging],
        predicted[..., judging],
        labels=LABELS[judging],
        percent=CEILING[judging],
    )
    assert set(found) == set(METRICS) & set(found)
    for area in AREAS:
        for direction in BRAIN_CORRELATIONS:
            for of_ceiling in (False, True):
                options = {"direction": direction, "of_ceiling": of_ceiling}
                judged = found[brain_metric(area, judged=True, **options)]
                np.testing.assert_allclose(judged, alone[brain_metric(area, **options)], atol=1e-6)
                assert (judged != found[brain_metric(area, **options)]).any()


def test_without_guiding_voxels_nothing_is_measured_twice(responses):
    found = measure(*responses, judging=np.ones(len(LABELS), bool))
    assert found and not [name for name in found if name.endswith("judged")]


@pytest.mark.parametrize("direction", BRAIN_CORRELATIONS)
def test_what_only_pleases_the_guiding_voxels_is_at_chance_where_voxels_judge(direction):
    """An encoder's answer copied from the guiding voxels; brains that are independent of it."""
    generator = np.random.default_rng(5)
    labels = np.repeat([1, 3, 5, 7, 0], 80)
    measured = generator.normal(size=(200, len(labels)))
    guiding = choose_guiding_voxels(labels, EncoderSettings(share=0.5), seed=0)
    predicted = np.where(guiding, measured, generator.normal(size=measured.shape))
    percent = np.full(len(labels), 30.0)
    found = measure(measured, predicted[:, None], labels=labels, percent=percent, judging=~guiding)
    for area in AREAS:
        judged = found[brain_metric(area, direction, judged=True)]
        assert abs(judged.mean()) < 4 * 0.11 / np.sqrt(200)  # 40 voxels: r scatters by 0.16
        assert found[brain_metric(area, direction)].mean() > 0.4
    fooled = {area: mask & guiding for area, mask in find_areas(labels).items()}
    assert all(mask.sum() >= 40 for mask in fooled.values())


# --- bad input ---


def test_too_few_images_are_refused(responses):
    measured, predicted = (values[:2] for values in responses)
    with pytest.raises(DataError) as error:
        measure(measured, predicted)
    assert str(error.value) == (
        "Brain correlation over images needs 3 images or more, but there are 2; reconstruct more "
        "images."
    )


def test_areas_without_voxels_are_left_out(responses):
    measured, predicted = responses
    labels = np.where(LABELS == 7, 0, LABELS)
    found = measure(measured, predicted, labels=labels)
    assert not [name for name in found if "hV4" in name]


def test_an_encoder_of_other_voxels_is_refused(responses):
    measured, predicted = responses
    with pytest.raises(DataError) as error:
        measure(measured, predicted[..., :-1])
    assert str(error.value) == (
        "the encoder predicts 23 voxels, but 24 were measured; "
        "train the encoder on this subject's voxels."
    )


def test_rows_are_joined_by_id():
    rows = np.array([[1.0], [5.0], [9.0]])
    assert rows_of(np.array([9, 1]), np.array([1, 5, 9]), rows).tolist() == [[9.0], [1.0]]
    with pytest.raises(DataError, match="the images 4 were reconstructed but are no test images"):
        rows_of(np.array([1, 4]), np.array([1, 5, 9]), rows)
