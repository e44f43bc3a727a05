"""Judges: every network runs once per set, and what it sees becomes the right metric."""

import numpy as np
import pytest
import torch
from torch import nn

from neuraldiffuser.config.evaluation import Judge
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation import features
from neuraldiffuser.evaluation.features import SetValue, embed, measure_networks, split_judges
from neuraldiffuser.evaluation.metrics import MEASURES


class Eye(nn.Module):
    """A network with two nodes that counts its passes and remembers the sizes it saw."""

    def __init__(self):
        super().__init__()
        self.images_seen = 0
        self.sizes = set()

    def forward(self, images):
        self.images_seen += len(images)
        self.sizes.add(images.shape[-1])
        pooled = nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
        return {"pixels": pooled, "means": images.mean(dim=(2, 3))}


def judge(name, node, measure):
    return Judge(name=name, label=name, network="eye", node=node, measure=measure, level="early")


JUDGES = [judge("same_pixels", "pixels", "identification"), judge("far", "means", "distance")]


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    stimuli = generator.integers(0, 256, size=(8, 16, 16, 3), dtype=np.uint8)
    noise = generator.integers(0, 256, size=(8, 3, 16, 16, 3))
    return stimuli, (0.3 * stimuli[:, None] + 0.7 * noise).astype(np.uint8)


def measure(images, *, eye=None, judges=JUDGES, first_resize=None):
    network = eye or Eye()
    return measure_networks(
        *images,
        load=lambda name: {"eye": network}[name],
        judges=judges,
        first_resize_of={"eye": first_resize}.get,
    )


def identify_by_loop(stimuli, reconstructions):
    """MindEye's two-way identification of block means, pair by pair."""

    def describe(image):
        return image.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)).transpose(2, 0, 1).ravel()

    def correlate(i, j, repeat):
        pair = describe(stimuli[i] / 255), describe(reconstructions[j, repeat] / 255)
        return np.corrcoef(*pair)[0, 1]

    number, repeats = reconstructions.shape[:2]
    shares = np.zeros((number, repeats))
    for j, repeat in np.ndindex(number, repeats):
        own = correlate(j, j, repeat)
        wins = [correlate(i, j, repeat) < own for i in range(number) if i != j]
        shares[j, repeat] = np.mean(wins)
    return shares


def test_identification_from_images_is_the_loops(images):
    np.testing.assert_allclose(measure(images)["same_pixels_mindeye"], identify_by_loop(*images))


def test_each_network_sees_each_image_once_whatever_its_judges(images):
    eye = Eye()
    measure(images, eye=eye)
    assert eye.images_seen == 8 + 8 * 3


def test_identical_images_are_best(images):
    stimuli, _ = images
    found = measure((stimuli, stimuli[:, None]))
    assert (found["same_pixels_mindeye"] == 1).all()
    assert (found["same_pixels_takagi"] == 1).all()
    assert found["far"] == pytest.approx(0, abs=1e-12)


def test_conventions_of_identification_differ_in_value_and_shape(images):
    found = measure(images)
    assert found["same_pixels_mindeye"].shape == (8, 3)
    assert found["same_pixels_takagi"].shape == (8,)
    assert found["same_pixels_mindeye"].mean() != found["same_pixels_takagi"].mean()


def test_the_first_resize_reaches_the_networks(images):
    eye = Eye()
    measure(images, eye=eye, first_resize=12)
    assert eye.sizes == {12}


def test_every_measure_of_the_registry_is_computed(images):
    repeated = tuple(np.repeat(part, 3, axis=0) for part in images)
    judges = [judge(name, "means", name) for name in MEASURES]
    found = measure(repeated, judges=judges)
    sets = {name for name, value in found.items() if isinstance(value, SetValue)}
    identified = {"identification_mindeye", "identification_takagi"}
    assert set(found) == set(MEASURES) - {"identification"} | identified
    assert sets == {"frechet_distance", "inception_score"}
    for name in ("kernel_distance", "perceptual"):
        assert found[name].shape == repeated[1].shape[:2]


def test_batches_do_not_change_the_features(images, monkeypatch):
    whole = embed(Eye(), images[0], first_resize=None)
    monkeypatch.setattr(features, "IMAGES_AT_ONCE", 3)
    parts = embed(Eye(), images[0], first_resize=None)
    for node in whole:
        torch.testing.assert_close(parts[node], whole[node], rtol=1e-6, atol=0)


def test_features_that_are_not_finite_are_refused(images):
    def broken(batch):
        return {"means": batch.mean(dim=(2, 3)) / 0}

    with pytest.raises(DataError, match="the node means of an evaluation network returned non-fin"):
        embed(broken, images[0], first_resize=None)


def test_judges_without_weights_or_images_are_named_with_a_reason():
    few = judge("few", "means", "distance").model_copy(update={"minimum_images": 9})
    blind = judge("blind", "means", "distance").model_copy(update={"network": "lost"})
    measured, skipped = split_judges(
        [*JUDGES, few, blind],
        number=8,
        networks={"eye": "known", "lost": "absent"},
        models={"known": "/models/known.pth"},
    )
    assert measured == JUDGES
    assert skipped == {
        "few": "not computed: 8 images, at least 9 are needed",
        "blind": "not computed: the weights of absent are not there",
    }
