"""The rules' scripts, called as plain functions on a tiny bucket."""

import numpy as np
import pandas as pd
import pytest
from describe_voxels import describe_voxels
from fetch_captions import fetch_captions
from fetch_file import fetch_file
from prepare_voxels import prepare_voxels
from tiny_bucket import betas_paths, region_paths
from unpack_captions import unpack_captions

from neuraldiffuser.errors import AlteredObjectError
from neuraldiffuser.nsd import captions, files, stimuli, voxels


def prepare(bucket, folder, subject, **changes):
    path = folder / f"{subject}.h5"
    settings = {
        "sessions": (1, 2, 3),
        "missing_sessions": (),
        "normalisation": "session_training",
        "invalid_voxels": "missing",
    } | changes
    prepare_voxels(
        paths_to_betas=betas_paths(bucket, subject),
        paths_to_regions=region_paths(bucket, subject),
        path_to_design=bucket / files.DESIGN,
        path_to_responses=bucket / files.responses(subject),
        path_to_voxels=path,
        subject=subject,
        **settings,
    )
    return path


def test_voxels_and_data_card_of_two_subjects(tiny_bucket, tmp_path):
    paths = [prepare(tiny_bucket, tmp_path, subject) for subject in ("subj01", "subj02")]
    read = [voxels.read_voxels(path) for path in paths]
    assert [one.training.betas.shape for one in read] == [(84, 150), (84, 190)]
    assert [one.test.betas.shape for one in read] == [(36, 150), (36, 190)]
    np.testing.assert_array_equal(*[one.averaged("test")[0] for one in read])
    assert not set(read[0].training.id) & set(read[1].training.id)
    tables = {name: tmp_path / f"{name}.csv" for name in ("subjects", "regions", "trials")}
    describe_voxels(paths_to_voxels=paths, paths_to_tables=tables)
    card = {name: pd.read_csv(path) for name, path in tables.items()}
    assert card["subjects"]["voxels"].tolist() == [150, 190]
    whole = card["regions"][card["regions"]["region"] == "nsdgeneral"]
    assert whole["noise_ceiling"].between(20, 45).all()
    assert card["trials"]["trials"].tolist() == [84, 36, 84, 36]
    assert (card["trials"]["shown_three_times"] == card["trials"]["images"]).all()


@pytest.mark.parametrize(
    "change",
    [{"normalisation": "global_training"}, {"invalid_voxels": "dropped"}, {"sessions": (1, 2)}],
)
def test_every_setting_changes_the_voxels(tiny_bucket, tmp_path, change):
    before = voxels.read_voxels(prepare(tiny_bucket, tmp_path, "subj01"))
    after = voxels.read_voxels(prepare(tiny_bucket, tmp_path, "subj01", **change))
    assert not np.array_equal(before.training.betas, after.training.betas)


def test_fetched_captions_describe_the_stimuli(tiny_bucket, tmp_path):
    archive = tmp_path / "annotations.zip"
    url = str(tiny_bucket / files.CAPTIONS_ARCHIVE)
    with pytest.raises(AlteredObjectError, match=f"{url} .*{'0' * 64}"):
        fetch_captions(path_to_archive=archive, url=url, sha256="0" * 64)
    assert not archive.exists()
    fetch_captions(path_to_archive=archive, url=url, sha256=None)
    annotations = [tmp_path / name.rsplit("/", 1)[1] for name in files.CAPTIONS]
    unpack_captions(path_to_archive=archive, paths_to_annotations=annotations)
    fetch_file(
        path_to_copy=tmp_path / "information.csv",
        name=files.STIMULUS_INFORMATION,
        bucket=f"{tiny_bucket}/",
        region="us-east-2",
    )
    texts = captions.read_captions(
        path_to_information=tmp_path / "information.csv",
        paths_to_annotations=annotations,
        ids=np.arange(68),
    )
    assert {len(lines) for lines in texts.values()} == {5}
    blue = share_of_blue(tiny_bucket, [n for n, lines in texts.items() if "sky" in lines[0]])
    rest = share_of_blue(tiny_bucket, [n for n, lines in texts.items() if "sky" not in lines[0]])
    assert blue > rest + 0.03


def share_of_blue(bucket, ids):
    """Mean share of blue in the pictures: more where a caption tells of the sky."""
    pictures = stimuli.read_images(bucket / files.STIMULI, np.array(ids)).astype(float)
    return (pictures[..., 2] / pictures.sum(axis=-1)).mean()
