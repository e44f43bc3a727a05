import numpy as np
import pytest
import torch
from planted_world import SHAPES, SUBJECTS

from neuraldiffuser import storage
from neuraldiffuser.decoders.data import (
    keep_on_device,
    leave_out,
    read_trials,
    refuse_test_images,
    walk,
)
from neuraldiffuser.errors import DataError


@pytest.fixture(scope="module")
def trials(world):
    paths = [world / f"voxels/{subject}.h5" for subject in ("subj03", "subj01")]
    return read_trials(paths, world / "targets/clip_text.h5")


def test_a_batch_joins_trials_and_targets_by_id(trials, world):
    batch = trials.batch(4, size=10, seed=1)
    assert list(batch.voxels) == ["subj03", "subj01"]
    assert [rows.shape for rows in batch.voxels.values()] == [(5, 35), (5, 30)]
    expected = storage.read_rows(world / "targets/clip_text.h5", batch.ids)
    np.testing.assert_array_equal(batch.target.numpy(), expected.astype(np.float32))
    for number, subject in enumerate(batch.voxels):
        path = world / f"voxels/{subject}.h5"
        betas, ids = (storage.read_array(path, f"training/{name}") for name in ("betas", "id"))
        for row, identity in zip(batch.voxels[subject], batch.ids[5 * number :], strict=False):
            own = betas[ids == identity].astype(np.float16)
            assert (own == row.numpy()).all(axis=1).any()


def test_a_batch_depends_on_its_step_and_seed_alone(trials):
    first, again = (trials.batch(7, size=10, seed=1) for _ in range(2))
    assert torch.equal(first.target, again.target) and (first.ids == again.ids).all()
    for other in (trials.batch(8, size=10, seed=1), trials.batch(7, size=10, seed=2)):
        assert not (first.ids == other.ids).all()


def test_every_trial_comes_once_per_epoch():
    chosen = np.concatenate([walk(10, start, 4, seed=(1, 2)) for start in range(0, 40, 4)])
    for epoch in chosen.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert not (chosen[:10] == chosen[10:20]).all()


def test_left_out_images_vanish_from_trials_and_targets(trials):
    held_out = np.array([3, 250])
    left = leave_out(trials, held_out)
    assert len(left.embedding) == len(trials.embedding) - 2
    for subject, ids in left.ids.items():
        assert not np.isin(ids, held_out).any()
        assert len(left.betas[subject]) == len(ids) == 297
    assert left.voxel_counts == {"subj03": SUBJECTS["subj03"], "subj01": SUBJECTS["subj01"]}
    assert left.shape == SHAPES["clip_text"]


def test_test_images_are_refused():
    with pytest.raises(DataError) as error:
        refuse_test_images("subj01", np.array([4, 9, 7]), np.array([7, 9, 11]))
    assert str(error.value) == (
        "2 test images of subj01 are among its training trials, 7 among them; delete its voxels "
        "and run the workflow again."
    )


def test_missing_targets_are_named(world, tmp_path):
    path = tmp_path / "clip_text.h5"
    rows = np.zeros((99, 5, 8), np.float16)
    storage.write_arrays(path, {"id": np.arange(99), "embedding": rows})
    with pytest.raises(DataError) as error:
        read_trials([world / "voxels/subj01.h5"], path)
    assert str(error.value) == (
        f"{path} lacks 1 of the ids asked for, 99 among them; delete it and run the workflow again."
    )


def test_tables_lie_on_the_device_while_they_fit(trials):
    sizes = [table.nbytes for table in (trials.embedding, *trials.betas.values())]
    for free, moved in ((sum(sizes), 3), (sizes[0] + sizes[1], 2), (sizes[0], 1), (0, 0)):
        placed = keep_on_device(trials, "meta", free=free)
        tables = [placed.embedding, *placed.betas.values()]
        assert [table.device.type for table in tables] == ["meta"] * moved + ["cpu"] * (3 - moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="streaming needs a GPU")
def test_streamed_batches_are_the_resident_ones(trials):
    resident = keep_on_device(trials, "cuda", free=1 << 40)
    expected = trials.batch(3, size=10, seed=1)
    for source in (trials, resident):
        batch = source.batch(3, size=10, seed=1, device="cuda")
        assert torch.equal(batch.target.cpu(), expected.target)
        for subject, rows in batch.voxels.items():
            assert torch.equal(rows.cpu(), expected.voxels[subject])
