import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neuraldiffuser import runtime, storage
from neuraldiffuser.encoding import training
from neuraldiffuser.encoding.accuracy import correlate_voxels
from neuraldiffuser.encoding.prediction import predict
from neuraldiffuser.errors import ConfigError, TrainingError

NOWHERE = Path("/nonexistent/partial")  # short trainings keep no checkpoint


def fit(planted, settings, *, seed=0, path_to_checkpoint=NOWHERE, **changes):
    plan = settings.training.model_copy(update=changes)
    return training.train_gnet(
        planted[0],
        planted[1],
        settings=settings.model_copy(update={"training": plan}),
        seed=seed,
        device="cpu",
        path_to_checkpoint=path_to_checkpoint,
    )


def first_rows(responses, count):
    """Those to the first so many images."""
    return training.Responses(
        responses.images[:count], responses.means[:count], responses.repeats[:count]
    )


@pytest.fixture(scope="module")
def fitted(planted, settings):
    return fit(planted, settings)


def test_learns_planted_responses_and_where_they_come_from(fitted, planted):
    encoder, curve = fitted
    reached = correlate_voxels(predict(encoder, planted[2].images), planted[2].means)
    assert reached.min() > 0.7
    fields = encoder.readout.fields[0].softmax(dim=1).detach()
    side = int(fields.shape[1] ** 0.5)
    at = (torch.arange(side) + 0.5) / side
    maps = fields.unflatten(1, (side, side))
    down, across = (maps.sum(dim=2) * at).sum(1), (maps.sum(dim=1) * at).sum(1)
    assert [bool(y > 0.5) for y in down] == [False, False, True, True]
    assert [bool(x > 0.5) for x in across] == [False, True, False, True]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]


def test_shuffled_pictures_teach_nothing(planted, settings):
    order = np.random.default_rng(0).permutation(len(planted[0].images))
    shuffled = replace(planted[0], means=planted[0].means[order])
    encoder, _ = fit((shuffled, planted[1]), settings, epochs=2)
    reached = correlate_voxels(predict(encoder, planted[2].images), planted[2].means)
    assert abs(reached.mean()) < 0.25


def test_the_same_seed_gives_the_same_weights_and_spares_the_global_generator(planted, settings):
    before = torch.random.get_rng_state()
    first, _ = fit(planted, settings, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again, _ = fit(planted, settings, epochs=1)
    weights = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 2},
        {"batch_size": 40},
        {"learning_rate": 1e-3},
        {"readout_learning_rate": 1e-2},
        {"weight_penalty": 5.0},
    ],
)
def test_every_setting_changes_the_training(planted, settings, change):
    few = (first_rows(planted[0], 80), planted[1])
    _, first = fit(few, settings, epochs=1)
    _, other = fit(few, settings, **({"epochs": 1} | change))
    assert not first.equals(other)


def test_the_seed_changes_the_weights(planted, settings):
    few = (first_rows(planted[0], 80), planted[1])
    first, other = (fit(few, settings, epochs=1, seed=seed)[0] for seed in (0, 1))
    assert not torch.equal(first.readout.weight, other.readout.weight)


def test_grouped_repeats_have_the_gradient_of_single_trials():
    rng = np.random.default_rng(0)
    trials = torch.from_numpy(rng.standard_normal((7, 4)))
    image = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    repeats = torch.tensor([3, 2, 2])
    means = torch.stack([trials[image == number].mean(0) for number in range(3)])
    predicted = torch.from_numpy(rng.standard_normal((3, 4))).requires_grad_()
    (single,) = torch.autograd.grad(((predicted[image] - trials) ** 2).sum(), predicted)
    grouped = training.squared_error(predicted, means, repeats)
    torch.testing.assert_close(torch.autograd.grad(grouped, predicted)[0], single)


def test_training_stops_early_and_keeps_the_best_epoch(planted, settings, monkeypatch):
    scripted = iter(np.array([0.1, 0.5, 0.2, 0.4, 0.9]))
    kept = []

    def measure(encoder, _images, _means):
        kept.append(encoder.readout.weight.detach().clone())
        return next(scripted)

    monkeypatch.setattr(training, "measure_accuracy", measure)
    few = (first_rows(planted[0], 32), planted[1])
    encoder, curve = fit(few, settings, patience=2)
    assert curve["held_out_correlation"].tolist() == [0.1, 0.5, 0.2, 0.4]
    assert torch.equal(encoder.readout.weight, kept[1])


def test_a_training_whose_time_is_up_keeps_its_checkpoint_and_goes_on(
    planted, settings, monkeypatch, tmp_path
):
    few, path = (first_rows(planted[0], 80), planted[1]), tmp_path / "partial"
    whole, curve = fit(few, settings, epochs=3)
    late = runtime.Execution(deadline=time.monotonic() + 60)
    for epochs in (1, 2):
        monkeypatch.setattr(runtime, "_execution", late)
        with pytest.raises(TrainingError) as error:
            fit(few, settings, epochs=3, path_to_checkpoint=path)
        assert str(error.value) == (
            f"The encoder's training stopped in time after epoch {epochs}, whose checkpoint is "
            "kept; run the same command again to go on."
        )
    monkeypatch.setattr(runtime, "_execution", runtime.Execution())
    resumed, again = fit(few, settings, epochs=3, path_to_checkpoint=path)
    assert again.equals(curve)
    weights = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in weights)


def test_another_training_does_not_go_on_from_a_checkpoint(
    planted, settings, monkeypatch, tmp_path
):
    few, path = (first_rows(planted[0], 80), planted[1]), tmp_path / "partial"
    _, fresh = fit(few, settings, epochs=2, seed=1)
    monkeypatch.setattr(runtime, "_execution", runtime.Execution(deadline=time.monotonic()))
    with pytest.raises(TrainingError):
        fit(few, settings, epochs=2, seed=0, path_to_checkpoint=path)
    monkeypatch.setattr(runtime, "_execution", runtime.Execution())
    _, other = fit(few, settings, epochs=2, seed=1, path_to_checkpoint=path)
    assert other.equals(fresh)


def test_best_epoch_is_the_first_of_the_highest():
    curve = [{"held_out_correlation": value} for value in (0.1, 0.4, 0.4, 0.3)]
    assert training.find_best_epoch(curve) == 1


IDS = np.arange(100, 200)
NONE = np.zeros(100, bool)


def test_held_out_images_are_a_seeded_choice():
    watching = training.hold_out(IDS, unseen=NONE, count=10, seed=0)
    assert watching.sum() == 10
    assert np.array_equal(watching, training.hold_out(IDS, unseen=NONE, count=10, seed=0))
    assert not np.array_equal(watching, training.hold_out(IDS, unseen=NONE, count=10, seed=1))


def test_unseen_images_do_not_watch_either():
    unseen = NONE.copy()
    unseen[::2] = True
    watching = training.hold_out(IDS, unseen=unseen, count=48, seed=0)
    assert watching.sum() == 48 and not (watching & unseen).any()


def test_something_is_left_to_train_on():
    unseen = IDS < 105
    assert training.hold_out(IDS, unseen=unseen, count=93, seed=0).sum() == 93
    with pytest.raises(ConfigError) as refusal:
        training.hold_out(IDS, unseen=unseen, count=94, seed=0)
    assert str(refusal.value) == (
        "encoding.training.held_out_images is 94 beside 5 images of decoder.validation_images, but "
        "there are only 100 training images; hold out fewer."
    )


def test_a_loss_that_is_not_finite_stops_the_training(planted, settings):
    few = first_rows(planted[0], 32)
    broken = replace(few, means=np.full_like(few.means, np.nan))
    with pytest.raises(TrainingError, match="no longer finite; lower encoding.training"):
        fit((broken, planted[1]), settings, epochs=1)


@pytest.fixture
def path_to_stimuli(tmp_path):
    """500 pictures, each of 16 times the bytes that a network of 20 pixels reads."""
    pictures = np.random.default_rng(0).integers(256, size=(500, 80, 80, 3), dtype=np.uint8)
    storage.write_arrays(tmp_path / "stimuli.hdf5", {"imgBrick": pictures})
    return tmp_path / "stimuli.hdf5"


def test_stimuli_are_made_small_one_by_one(path_to_stimuli):
    ids = np.array([401, 7, 399, 7])
    pictures = storage.read_array(path_to_stimuli, "imgBrick")
    small = training.read_small_images(path_to_stimuli, ids, size=20)
    assert small.shape == (4, 20, 20, 3) and small.dtype == np.uint8
    for row, number in enumerate(ids):
        alone = Image.fromarray(pictures[number]).resize((20, 20), Image.Resampling.LANCZOS)
        assert np.array_equal(small[row], np.asarray(alone))


def test_few_stimuli_are_held_in_full_size(path_to_stimuli, monkeypatch):
    monkeypatch.setattr(training, "IMAGES_AT_ONCE", 10)
    monkeypatch.setattr(storage, "BYTES_AT_ONCE", 10 * 80 * 80 * 3)
    tracemalloc.start()
    try:
        small = training.read_small_images(path_to_stimuli, np.arange(500), size=20)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert small.nbytes <= held < 3 * small.nbytes
