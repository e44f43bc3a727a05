"""The repeat that is most like the decoded features is chosen, whatever the stimulus was."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch

from neuraldiffuser.config.reconstruction import Selection
from neuraldiffuser.diffusion.selection import (
    SIMILARITIES,
    choose_repeats,
    compare_decoded_features,
    rate_repeats,
)
from neuraldiffuser.errors import DataError

SHAPES = {"clip_image_02": (3, 5), "clip_image_04": (7,)}


def draw(seed, *leading):
    rng = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(rng.normal(size=(*leading, *shape)))
        for name, shape in SHAPES.items()
    }


def add(features, others, weight=1.0):
    return {name: features[name] + weight * others[name] for name in features}


def test_similarity_is_the_mean_over_layers_of_the_centred_correlation():
    repeats, decoded, means = draw(0, 4), draw(1), draw(2)
    expected = [
        np.mean(
            [
                np.corrcoef(
                    (repeats[name][k] - means[name]).numpy().ravel(),
                    (decoded[name] - means[name]).numpy().ravel(),
                )[0, 1]
                for name in SHAPES
            ]
        )
        for k in range(4)
    ]
    found = compare_decoded_features(repeats, decoded, means)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_a_large_mean_feature_hides_nothing():
    """Without taking the mean away, the repeat that is nothing but the mean would win."""
    means = {name: 100 * rows for name, rows in draw(2).items()}
    own = draw(3)
    decoded = add(means, own)
    repeats = {
        name: torch.stack([means[name] - 0.01 * own[name], means[name] + 8 * own[name]])
        for name in SHAPES
    }
    nothing = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    assert compare_decoded_features(repeats, decoded, nothing).argmax() == 0
    np.testing.assert_allclose(compare_decoded_features(repeats, decoded, means), [-1, 1])


def look(images):
    """Pixels as features: (r, 3, h, w) to two layers."""
    return {"clip_image_02": images.flatten(1), "clip_image_04": images[:, 0]}


@pytest.fixture
def planted():
    """Six images of three repeats; what was decoded is a noisy view of one planted repeat each."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (6, 3, 8, 8, 3), dtype=np.uint8)
    wanted = np.array([2, 0, 1, 1, 2, 0])
    seen = look(torch.from_numpy(images[np.arange(6), wanted]).permute(0, 3, 1, 2) / 255)
    decoded = {
        name: rows + torch.from_numpy(rng.normal(0, 0.3, rows.shape)) for name, rows in seen.items()
    }
    means = {name: rows.mean(dim=0) for name, rows in seen.items()}
    return images, decoded, means, wanted


def test_planted_repeats_are_chosen(planted):
    images, decoded, means, wanted = planted
    found = rate_repeats(images, decoded, means, look=look, by="decoded_features")
    assert found.shape == (6, 3)
    assert found.argmax(axis=1).tolist() == wanted.tolist()


def test_shards_change_no_bit(planted):
    images, decoded, means, _ = planted
    whole = rate_repeats(images, decoded, means, look=look, by="decoded_features")
    parts = [
        rate_repeats(
            images[rows],
            {name: values[rows] for name, values in decoded.items()},
            means,
            look=look,
            by="decoded_features",
        )
        for rows in (slice(0, 1), slice(1, 6))
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_the_first_of_equals_is_chosen_and_rows_are_in_order():
    table = choose_repeats(np.array([9, 4]), np.array([[0.5, 0.5, 0.1], [-0.3, -0.2, -0.2]]))
    expected = {
        "id": [4, 4, 4, 9, 9, 9],
        "repeat": [0, 1, 2, 0, 1, 2],
        "similarity": [-0.3, -0.2, -0.2, 0.5, 0.5, 0.1],
        "chosen": [False, True, False, True, False, False],
    }
    pd.testing.assert_frame_equal(table, pd.DataFrame(expected))


def test_a_similarity_that_is_no_number_is_refused():
    with pytest.raises(DataError) as error:
        choose_repeats(np.array([9]), np.array([[0.5, np.nan]]))
    assert str(error.value) == (
        "similarity of repeats with the decoded features holds 1 non-finite values out of 2; "
        "remove or regenerate the file it came from."
    )


def test_every_rule_of_the_configuration_is_registered():
    assert set(get_args(Selection.model_fields["by"].annotation)) == set(SIMILARITIES)
