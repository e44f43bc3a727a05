import json
import zipfile

import pandas as pd
import pytest

from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd import captions


@pytest.fixture
def world(tmp_path):
    """Three pictures whose COCO ids are in another order than their 73k ids, in two splits.

    Both splits hold a picture 7, so that a join without the split would mix them.
    """
    information = tmp_path / "information.csv"
    pd.DataFrame(
        {
            "nsdId": [2, 0, 1],
            "cocoId": [7, 9, 7],
            "cocoSplit": ["val2017", "train2017", "train2017"],
        }
    ).to_csv(information)
    texts = {
        "train2017": [(9, 3, "c"), (7, 2, "late "), (7, 1, "early\n")],
        "val2017": [(7, 4, "other")],
    }
    annotations = [tmp_path / f"captions_{split}.json" for split in texts]
    for path, split in zip(annotations, texts, strict=True):
        path.write_text(json.dumps({"annotations": [entry(*line) for line in texts[split]]}))
    return information, annotations


def entry(picture, number, text):
    return {"image_id": picture, "id": number, "caption": text}


def read(world, ids):
    return captions.read_captions(
        path_to_information=world[0], paths_to_annotations=world[1], ids=ids
    )


def test_captions_are_joined_by_split_and_picture(world):
    assert read(world, [2, 0, 1]) == {0: ("c",), 1: ("early", "late"), 2: ("other",)}
    assert read((world[0], world[1][::-1]), [1, 1]) == {1: ("early", "late")}


def test_unknown_id_is_named(world):
    with pytest.raises(DataError) as error:
        read(world, [0, 3])
    assert str(error.value) == (
        f"{world[0]} does not know the 73k id 3; it belongs to another release or world than the "
        "trials."
    )


def test_picture_without_caption_is_named(world):
    with pytest.raises(DataError) as error:
        read((world[0], world[1][:1]), [0, 1, 2])
    assert str(error.value) == (
        "1 pictures have no caption, 73k id 2 among them; the captions belong to another release "
        "of COCO than NSD's (2017)."
    )


def test_a_table_without_columns_is_refused(world, tmp_path):
    path = tmp_path / "short.csv"
    pd.DataFrame({"nsdId": [0]}).to_csv(path)
    with pytest.raises(DataError, match="lacks the columns cocoId, cocoSplit"):
        read((path, world[1]), [0])


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("nsdId", [2, 0, 2], "lists the 73k id 2 twice; fetch it again."),
        ("nsdId", [2, 0, None], "has an nsdId or cocoId that is no whole number; fetch it again."),
        (
            "cocoSplit",
            ["val2017", None, "val2017"],
            "has a cocoSplit other than train2017 and val2017; fetch it again.",
        ),
        ("cocoId", [7, "x", 7], "has an nsdId or cocoId that is no whole number; fetch it again."),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(world, column, values, said):
    pd.read_csv(world[0]).assign(**{column: values}).to_csv(world[0])
    with pytest.raises(DataError) as error:
        read(world, [0])
    assert str(error.value) == f"{world[0]} {said}"


@pytest.mark.parametrize("content", ["{}", '{"annotations": [{"id": 1}]}', '{"annotations": [1]}'])
def test_other_json_is_refused(tmp_path, content):
    path = tmp_path / "captions_val2017.json"
    path.write_text(content)
    with pytest.raises(DataError, match="is no COCO caption file"):
        captions.read_annotations(path)


def test_archive_is_unpacked_and_refused_when_damaged(tmp_path):
    archive, output = tmp_path / "a.zip", tmp_path / "captions_val2017.json"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("annotations/captions_val2017.json", '{"annotations": []}')
    captions.unpack(archive, [output])
    assert output.read_text() == '{"annotations": []}'
    with pytest.raises(DataError, match="lacks .*captions_train2017.json.*check nsd.captions_url"):
        captions.unpack(archive, [tmp_path / "captions_train2017.json"])
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(DataError, match="a.zip is truncated; delete it and run again"):
        captions.unpack(archive, [output])
