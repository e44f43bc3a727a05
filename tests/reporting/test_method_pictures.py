"""Ours beside other methods' pictures and other guidance functions."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from reporting.invented_results import ids_of
from reporting.test_figures import sources_of
from reporting.test_pictures import contains
from reporting.test_tables import PAPER

from neuraldiffuser.errors import DataError
from neuraldiffuser.reporting import method_pictures, pictures
from neuraldiffuser.reporting.sources import Sources


def give(folder, method, ids, *, size=(300, 300)):
    """Pictures of a method, of a colour of their own, and their paths."""
    paths = [folder / method / f"{number}.png" for number in ids]
    for number, path in zip(ids, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 10, int(number))).save(path)
    return paths


def with_rivals(world, paths):
    return Sources(sources_of(world, "figure6").paths | {"rivals": paths})


def decode(figure):
    return np.asarray(Image.open(io.BytesIO(figure.image)).convert("RGB"))


def test_the_methods_that_optimise_are_those_of_table_1():
    table = pd.read_csv(PAPER / "table1_comparison.csv")
    assert set(method_pictures.OPTIMISED) == set(table[table["group"] == "optimized"]["method"])


def test_other_methods_stand_right_of_ours_on_the_images_they_have(world, experiment, tmp_path):
    ids = ids_of(world)[[2, 5, 7]]
    paths = give(tmp_path, "MindEye", ids) + give(tmp_path, "DREAM", ids[:1])
    sources = with_rivals(world, paths)
    beside, optimised = (
        show(sources, experiment)
        for show in (method_pictures.show_rivals, method_pictures.show_guidance_functions)
    )
    assert set(beside.data["id"]) == set(ids)
    assert set(optimised.data["id"]) == {ids[0]}
    assert beside.alt.endswith("Beside them pictures of MindEye.")
    assert optimised.alt.endswith("Beside them pictures of DREAM.")
    assert set(beside.data["variant"]) == {"guided", "unguided"}
    for number in ids:
        assert contains(decode(beside), np.full((64, 64, 3), (200, 10, number), np.uint8))


def test_without_pictures_figure_6_says_where_to_put_them(world, experiment):
    figure = method_pictures.show_rivals(sources_of(world, "figure6"), experiment)
    assert "put them into the folder report.rival_images" in figure.caption
    assert not figure.pending
    assert "Beside" not in figure.alt


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("cat", (9, 9), "{path} is not named by a 73k id; name the pictures in"),
        ("4", (9, 8), "{path} has 9 x 8 pixels; crop it to a square as NSD's stimuli are."),
        ("999", (9, 9), "report.rival_images holds no picture of a test image; name them"),
    ],
)
def test_unusable_pictures_are_refused(world, experiment, tmp_path, name, size, message):
    [path] = give(tmp_path, "MindEye", [4], size=size)
    path = path.rename(path.with_stem(name))
    with pytest.raises(DataError) as error:
        method_pictures.show_rivals(with_rivals(world, [path]), experiment)
    assert str(error.value).startswith(message.format(path=path))


@pytest.fixture
def functions(world, experiment, tmp_path):
    """The experiment with two more functions and a control, their pictures those of guided."""
    names = ("brain_encoding", "clip_and_color", "encoder_wrong_image")
    shards = world.paths("reconstructions")
    for name in names:
        guided = world.results / "reconstructions/guided"
        shutil.copytree(guided, tmp_path / "reconstructions" / name)
    added = sorted((tmp_path / "reconstructions").glob("*/*/*.h5"))
    paths = sources_of(world, "figure7").paths | {"reconstructions": [*shards, *added]}
    control = experiment.variants["brain_encoding"].model_copy(update={"features": "another_image"})
    changes = {
        "run": (*experiment.run, *names),
        "variants": experiment.variants | {"encoder_wrong_image": control},
    }
    return Sources(paths), experiment.model_copy(update=changes)


def test_figure_7_has_a_column_for_each_function_that_ran(functions):
    figure = method_pictures.show_guidance_functions(*functions)
    assert set(figure.data["variant"]) == {"guided", "brain_encoding", "clip_and_color"}
    assert set(figure.data["subject"]) == {"subj01"}


def test_figure_11_shows_each_subject_by_both_functions(functions):
    figure = method_pictures.show_brain_guidance(*functions)
    columns = figure.data[["subject", "variant"]].drop_duplicates().to_numpy().tolist()
    assert columns == [
        [who, name] for who in ("subj01", "subj02") for name in ("guided", "brain_encoding")
    ]


def test_what_was_not_run_is_said_in_words(world, experiment):
    sources = sources_of(world, "figure7")
    figures = [
        method_pictures.show_guidance_functions(sources, experiment),
        method_pictures.show_brain_guidance(sources, experiment),
    ]
    assert figures[0].pending.startswith("No other guidance function has been run.")
    assert figures[1].pending.startswith("No variant that the encoding model alone guides is run")


def test_images_are_chosen_among_those_given(world, experiment):
    ids = ids_of(world)[[1, 4, 9]]
    sources = sources_of(world, "examples")
    chosen = pictures.choose_images(sources, experiment, 6, among=ids)
    every = pictures.choose_images(sources, experiment, world.images)
    assert chosen.to_dict() == {n: value for n, value in every.items() if n in ids}
