"""Brain correlation in both directions, against scipy, with planted signals."""

import numpy as np
import pytest
import scipy.stats

from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.brain import BRAIN_CORRELATIONS, measure_brain, rows_of
from neuraldiffuser.evaluation.metrics import AREAS, METRICS, brain_metric

LABELS = np.repeat([0, 1, 2, 3, 5, 7], 4)  # higher, V1v, V1d, V2v, V3v, hV4
CEILING = np.linspace(10, 60, len(LABELS))


@pytest.fixture
def responses():
    generator = np.random.default_rng(0)
    measured = generator.normal(size=(10, len(LABELS))).astype(np.float32)
    noise = generator.normal(size=(10, 3, len(LABELS))).astype(np.float32)
    return measured, measured[:, None] + noise


def measure(measured, predicted):
    return measure_brain(measured, predicted, labels=LABELS, noise_ceiling=CEILING)


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


@pytest.mark.parametrize("direction", BRAIN_CORRELATIONS)
def test_the_noise_free_response_reaches_the_ceiling(direction):
    generator = np.random.default_rng(3)
    labels, ceiling = np.ones(400, int), np.full(400, 30.0)
    signal = generator.normal(scale=np.sqrt(0.3), size=(200, 400))
    measured = signal + generator.normal(scale=np.sqrt(0.7), size=signal.shape)
    found = measure_brain(measured, signal[:, None], labels=labels, noise_ceiling=ceiling)
    share = found[brain_metric("V1", direction, of_ceiling=True)].mean()
    assert share == pytest.approx(1, abs=0.03)


def test_areas_without_voxels_are_left_out(responses):
    measured, predicted = responses
    labels = np.where(LABELS == 7, 0, LABELS)
    found = measure_brain(measured, predicted, labels=labels, noise_ceiling=CEILING)
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
