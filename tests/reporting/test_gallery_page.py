import io
import json
import re

import numpy as np
import pytest
from invented_gallery import PAGE, invent_gallery
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.config.evaluation import NSD_JUDGES, Judge
from neuraldiffuser.config.reconstruction import Selection
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.reporting import gallery_page, thumbnails
from neuraldiffuser.reporting.sources import Sources


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return invent_gallery(tmp_path_factory.mktemp("gallery"), images=7, subjects=2)


def told(page):
    """What the page knows of the gallery."""
    block = re.search(r'<script type="application/json" id="gallery">(.*?)</script>', page)[1]
    return json.loads(block)


MEASURED = ["pixcorr", "lite_early", "lite_distance", "consistency"]


def describe(experiment):
    """What the page is told of an experiment of which only MEASURED has values."""
    sources = Sources({"thumbnails": []})
    return gallery_page.describe_gallery(sources, experiment, {}, measured=MEASURED)


def handed_over(path):
    """The arguments of the call in a script of values."""
    return json.loads(
        f"[{path.read_text().removeprefix('addValues(').removesuffix(');' + chr(10))}]"
    )


def pixels(strip, place, size):
    """One picture of a strip."""
    left = place * (size + size // thumbnails.GAPS_PER_PICTURE)
    image = np.asarray(Image.open(io.BytesIO(strip)).convert("RGB"))
    return image[:, left : left + size].astype(int)


def test_the_page_knows_what_there_is_to_show(gallery):
    found = told(gallery.page.read_text())
    assert found["ids"] == gallery.ids.tolist()
    assert [run["variant"] for run in found["runs"]] == ["guided"] * 2 + ["unguided"] * 2
    assert {run["repeats"] for run in found["runs"]} == {5}
    assert found["start"] == ["guided", "unguided"]
    directions = {metric["name"]: metric["higher"] for metric in found["metrics"]}
    assert directions["pixcorr"] and not directions["lite_distance"]


def test_what_an_image_alone_does_not_have_is_not_offered(experiment):
    """Of a set's quality and of correlations over images, a single image has no better or worse."""
    kernel = Judge(
        name="kernel",
        label="Judge(kernel)",
        network="alexnet",
        node="layer_2",
        measure="kernel_distance",
        level="late",
    )
    experiment = experiment.model_copy(update={"judges": (*NSD_JUDGES, kernel)})
    area = "brain_correlation_V1"
    over_voxels, over_images = (
        gallery_page.choose_metrics(experiment, {area: f"{area}_{direction}"})
        for direction in ("voxels_per_image", "images_per_voxel")
    )
    assert area in over_voxels and area not in over_images
    assert "effnet" in over_voxels
    assert not {"kernel", "fid", "inception_score"} & over_voxels.keys()


@pytest.mark.parametrize(
    ("identification", "expected"),
    [("mindeye", {"consistency"}), ("takagi", {"consistency", "lite_early"})],
)
def test_the_page_knows_what_all_repeats_have_together(experiment, identification, expected):
    found = describe(experiment.model_copy(update={"identification": identification}))
    assert {metric["name"] for metric in found["metrics"] if metric["together"]} == expected


def test_metrics_without_a_value_are_not_offered(experiment):
    assert [metric["name"] for metric in describe(experiment)["metrics"]] == MEASURED


def test_a_selection_says_what_it_chooses(experiment):
    chosen = experiment.model_copy(
        update={
            "selections": {"guided_best": Selection(of="guided")},
            "variants": experiment.variants | {"guided_best": experiment.variants["guided"]},
        }
    )
    of_all, of_best = (gallery_page.describe_run(n, chosen) for n in ("guided", "guided_best"))
    assert of_best == f"best repeat by decoded features: {of_all}"


def test_values_stand_by_image_then_by_repeat(gallery):
    variant, subject, values = handed_over(gallery.page.parent / "values/guided/subj02.js")
    assert (variant, subject, values["ids"]) == ("guided", "subj02", gallery.ids.tolist())
    expected = gallery.pixcorr["guided"][:, 1].ravel()
    np.testing.assert_allclose(values["metrics"]["pixcorr"], expected, rtol=1e-3)


def test_values_come_under_the_chosen_convention_and_gaps_stay_gaps(experiment, tmp_path):
    path = tmp_path / "evaluation/guided/subj01/images.csv"
    rows = [
        (7, 0, "lite_early_takagi", 0.9),
        (3, -1, "lite_early_mindeye", 0.5),
        (7, -1, "lite_early_mindeye", 0.25),
        (7, 1, "pixcorr", 0.123456),
        (3, 0, "pixcorr", 0.5),
    ]
    path.parent.mkdir(parents=True)
    path.write_text("id,repeat,metric,value\n" + "".join("{},{},{},{}\n".format(*r) for r in rows))
    values = gallery_page.read_values(
        Sources({"images": [path]}),
        experiment,
        {"lite_early": "lite_early_mindeye"},
        variant="guided",
        subject="subj01",
    )
    assert values == {
        "ids": [3, 7],
        "metrics": {"pixcorr": [0.5, None, None, 0.1235], "lite_early": [0.5, 0.25]},
    }


def test_a_title_cannot_end_the_script_that_holds_it(gallery):
    page = gallery_page.Page(*(PAGE / f"gallery.{end}" for end in ("html.jinja", "css", "js")))
    hostile = told(gallery.page.read_text()) | {"title": "</script><b>&"}
    shown = page.render(hostile)
    assert "</script><b>" not in shown
    assert told(shown)["title"] == "</script><b>&"


def test_the_page_loads_nothing_from_elsewhere(gallery):
    page = gallery.page.read_text()
    assert "http" not in page.replace('href="http', "")
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=", page)


def test_a_strip_shows_every_repeat_in_its_place(world):
    paths = sorted(world.results.glob("reconstructions/guided/subj01/*.h5"))
    rows = dict(thumbnails.list_reconstructions(paths, []))
    number, pictures = next(iter(rows.items()))
    strip = thumbnails.encode_strip(pictures, 128)
    for place, picture in enumerate(pictures):
        difference = np.abs(pixels(strip, place, 64) - picture)
        others = np.abs(pixels(strip, (place + 1) % 5, 64) - picture)
        assert difference.mean() < 8 < others.mean(), number


def test_larger_pictures_are_shrunk():
    pictures = np.full((2, 64, 64, 3), (10, 200, 90), np.uint8)
    strip = thumbnails.encode_strip(pictures, 32)
    assert Image.open(io.BytesIO(strip)).size == (32 + 1 + 32, 32)


def test_a_selection_has_the_chosen_repeat_alone(world):
    paths = sorted(world.results.glob("reconstructions/guided/subj01/*.h5"))
    selection = world.results / "selections/guided_best/subj01.csv"
    every = dict(thumbnails.list_reconstructions(paths, []))
    table = storage.read_table(selection)
    for number, pictures in thumbnails.list_reconstructions(paths, [selection]):
        chosen = table[(table["id"] == number) & table["chosen"]]["repeat"].item()
        np.testing.assert_array_equal(pictures, every[number][chosen : chosen + 1])


def test_folders_say_what_stands_in_them(world, tmp_path):
    ids = [4, 1, 7]
    rows = thumbnails.list_stimuli(world.stimuli, ids)
    contents = thumbnails.write_strips(rows, folder=tmp_path / "stimulus", width=48, enlarged=64)
    assert (contents["ids"], contents["repeats"]) == ([1, 4, 7], 1)
    names = sorted(path.name for path in (tmp_path / "stimulus").iterdir())
    assert names == ["00001.webp", "00004.webp", "00007.webp", "large"]
    assert Image.open(tmp_path / "stimulus/00004.webp").size == (48, 48)
    shown = pixels((tmp_path / "stimulus/large/00004.webp").read_bytes(), 0, 64)
    assert np.abs(shown - read_images(world.stimuli, [4])[0]).mean() < 8
    again = thumbnails.list_stimuli(world.stimuli, sorted(ids, reverse=True))
    assert contents == thumbnails.write_strips(again, folder=tmp_path / "b", width=48, enlarged=64)
