"""How much there is to do and to keep, beside sums done by hand and NSD's published counts."""

import pytest

from neuraldiffuser.inspection.counts import Counts, count, count_images_in_use, count_test_images
from neuraldiffuser.inspection.volumes import (
    list_downloads,
    shape_of,
    size_of_job,
    size_of_results,
)
from neuraldiffuser.models.presence import is_skipped
from neuraldiffuser.provenance import REPOSITORY

MILLION = 1e6
SUBJECT = {"subject": "subj01"}


def test_a_generated_world_is_counted_by_its_settings(tiny):
    expected = Counts(
        sessions=2, voxels=300, trials=192, test_trials=36, training_images=52, test_images=12
    )
    assert count(tiny, "subj01") == expected
    assert count(tiny, "subj02").voxels == 400
    assert count_images_in_use(tiny) == 52 + 52 + 12


def test_nsd_is_counted_as_it_publishes_itself(paper):
    counted = count(paper, "subj01")
    assert (counted.trials, counted.voxels) == (30_000, 15_724)
    assert (counted.training_images, counted.test_images) == (9_000, 1_000)
    # Four subjects of 40 sessions, two of 32 (9,411 images, 930 of them shared), two of 30.
    assert count_images_in_use(paper) == 4 * 9_000 + 2 * 8_481 + 2 * 8_302 + 1_000


def test_the_older_split_has_fewer_test_images(tmp_path, with_keys):
    older = with_keys(tmp_path, nsd={"sessions": {"subj01": 37}})
    assert count(older, "subj01").test_images == 982
    assert count_test_images(older, "stimulus") == 1_000, "other subjects saw all of them"


def test_targets_have_the_shapes_of_their_models(paper, tiny, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    assert shape_of(paper, "vae_latent") == (4, 64, 64)
    assert shape_of(paper, "clip_text") == (77, 768)
    assert shape_of(paper, "clip_image_12") == (50, 768)
    assert shape_of(tiny, "vae_latent") == (4, 16, 16)
    assert shape_of(tiny, "clip_text") == (26, 96)
    assert shape_of(tiny, "clip_image_02") == (65, 80)


def test_files_have_the_sizes_of_their_arrays(paper):
    assert size_of_job("prepare_voxels", paper, SUBJECT) == 30_000 * 15_724 * 4
    shard = {"variant": "guided", "subject": "subj01", "shard": "0"}
    assert size_of_job("reconstruct_images", paper, shard) == 1_000 * 5 // 20 * 512 * 512 * 3
    assert size_of_job("extract_clip_text", paper, {}) == 70_566 * 77 * 768 * 2
    assert size_of_job("make_table", paper, {"table": "table1"}) == 0


@pytest.mark.parametrize(
    ("stage", "target", "millions"),
    [
        ("pretrain_decoder", "clip_text", 845.9),
        ("finetune_decoder", "clip_text", 497.9),
        ("pretrain_decoder", "clip_image_02", 760.9),
        ("finetune_decoder", "clip_image_02", 412.9),
        ("pretrain_decoder", "vae_latent", 554.1),
        ("finetune_decoder", "vae_latent", 206.1),
    ],
)
def test_decoders_have_the_weights_that_were_counted(paper, stage, target, millions):
    """docs/performance.md counts the networks themselves, of subj01."""
    size = size_of_job(stage, paper, {"target": target, "subject": "subj01"})
    assert size / 4 / MILLION == pytest.approx(millions, rel=0.002)


def test_the_reconstructions_take_what_the_readme_says(paper):
    samples = 54 * 1_000 * 5  # thirteen variants of four subjects, two of the stimuli
    assert size_of_results(paper) > samples * 512 * 512 * 3
    assert samples * 512 * 512 * 3 / 1e9 == pytest.approx(212, abs=1)


def test_all_is_fetched_where_nothing_is_there(paper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sizes: dict[str, float] = {}
    for each in list_downloads(paper):
        assert not each.is_there
        sizes[each.what] = sizes.get(each.what, 0) + each.size / 1e9
    assert sizes["stimuli"] == pytest.approx(39.6, abs=0.1)
    assert sizes["betas"] == pytest.approx(284 * 0.045)
    assert sizes["vicregl-convnext-xl"] == pytest.approx(6.546, abs=0.001)
    assert "gnet" not in sizes, "nothing reads it"


def test_what_is_there_is_not_fetched(paper, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stimuli = tmp_path / "data/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
    stimuli.parent.mkdir(parents=True)
    stimuli.touch()
    assert [each.what for each in list_downloads(paper) if each.is_there] == ["stimuli"]


def test_the_miniature_fetches_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_skipped(tiny, "alexnet")
    assert list_downloads(tiny) == []
