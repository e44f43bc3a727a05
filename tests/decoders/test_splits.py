import numpy as np
import pytest

from neuraldiffuser.decoders.splits import validation_ids
from neuraldiffuser.errors import ConfigError

TRIALS = np.repeat(np.arange(40, 60), 3)


def test_a_seeded_choice_of_images_in_ascending_order():
    chosen = validation_ids(TRIALS, count=6, seed=1)
    assert len(set(chosen)) == 6 and sorted(chosen) == list(chosen)
    assert np.isin(chosen, TRIALS).all()
    shuffled = np.random.default_rng(0).permutation(TRIALS)
    np.testing.assert_array_equal(validation_ids(shuffled, count=6, seed=1), chosen)
    assert (validation_ids(TRIALS, count=6, seed=2) != chosen).any()


def test_something_must_be_left():
    with pytest.raises(ConfigError) as error:
        validation_ids(TRIALS, count=20, seed=1)
    assert str(error.value) == (
        "decoder.validation_images is 20, but there are only 20 training images; hold out fewer."
    )
