import io

import numpy as np
import pytest
from PIL import Image
from reporting.invented_results import configure, ids_of
from reporting.test_figures import sources_of

from neuraldiffuser import storage
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.reporting import figures, gallery, pictures, sheets
from neuraldiffuser.reporting.sources import Sources


def test_chosen_images_run_from_the_best_to_the_worst(world, experiment):
    sources = sources_of(world, "examples")
    means = (
        pictures.read_pixcorr(sources).query("variant == 'guided'").groupby("id")["value"].mean()
    )
    chosen = pictures.choose_images(sources, experiment, 4)
    assert list(chosen) == sorted(chosen, reverse=True)
    assert (chosen.iloc[0], chosen.iloc[-1]) == (means.max(), means.min())


def test_repeats_are_joined_by_id_whatever_the_order_in_the_files(world, tmp_path):
    original = world.results / "reconstructions/guided/subj01/shard-0.h5"
    ids, images = (storage.read_array(original, name) for name in ("id", "images"))
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = tmp_path / "reconstructions/guided/subj01/shard-0.h5"
    storage.write_arrays(shuffled, {"id": ids[order], "images": images[order]})
    found = pictures.read_repeats(
        Sources({"reconstructions": [shuffled]}),
        variant="guided",
        maker="guided",
        subject="subj01",
        ids=ids,
    )
    for position, image in zip(ids.tolist(), images, strict=True):
        np.testing.assert_array_equal(found[position], image)


def test_a_missing_image_is_named(world):
    sources = sources_of(world, "examples")
    with pytest.raises(DataError) as error:
        pictures.read_repeats(
            sources, variant="guided", maker="guided", subject="subj01", ids=[1, 999]
        )
    assert str(error.value) == (
        "No shard of guided for subj01 holds image 999; delete reconstructions/guided/subj01 and "
        "run again."
    )


def chosen_repeats(world, ids):
    """The repeats that the invented selection chose, read without it."""
    shards = Sources({"reconstructions": world.paths("reconstructions")})
    every = pictures.read_repeats(
        shards, variant="guided", maker="guided", subject="subj01", ids=ids
    )
    places = ids_of(world).tolist()
    return {i: every[i][places.index(i) % len(every[i])] for i in every}


def test_a_selection_shows_its_chosen_repeat_alone(world):
    ids = ids_of(world)[[7, 2, 11]]
    sources = sources_of(world, "examples")
    found = pictures.read_repeats(
        sources, variant="guided_best", maker="guided", subject="subj01", ids=ids
    )
    for number, image in chosen_repeats(world, ids).items():
        np.testing.assert_array_equal(found[number], image[None])


def test_a_figure_can_show_a_selection(world, config):
    run = (*config.reconstruction.run, "guided_best")
    shown = config.model_copy(
        update={
            "report": config.report.model_copy(update={"headline": "guided_best"}),
            "reconstruction": config.reconstruction.model_copy(update={"run": run}),
        }
    )
    for name in ("examples", "figure9", "figure10"):
        figure = figures.FIGURES[name](sources_of(world, name), shown.presentation)
        rows = figure.data[figure.data["variant"] == "guided_best"]
        assert set(rows["repeat"]) == {0}


def test_figure_8_shows_the_sweep_by_growing_guidance(world):
    run = ("unguided", "guided", "scale_100_strength_100", "scale_10_strength_100")
    config = configure(world)
    changed = config.model_copy(
        update={"reconstruction": config.reconstruction.model_copy(update={"run": run})}
    )
    order = pictures.order_columns(changed.presentation)
    assert [column.variant for column in order] == [
        "unguided",
        "scale_10_strength_100",
        "guided",
        "scale_100_strength_100",
    ]
    assert order[1].heading == "κ 30\u202f000\nη 1"


def tile_at(sheet, row, column, *, width, left, top):
    """The pixels of a tile, computed from the grid's geometry alone."""
    gap = sheets.GAP if column == 0 else sheets.GROUP_GAP
    x = left + (0 if column == 0 else width + gap + (column - 1) * (width + sheets.GAP))
    y = top + row * (width + sheets.GAP)
    return np.asarray(sheet)[y : y + width, x : x + width]


def test_a_grid_puts_every_picture_in_its_place():
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8)
    sheet = sheets.draw_grid(tiles, columns=["", "", ""], rows=["", ""], width=16)
    top = sheet.size[1] - 2 * 16 - sheets.GAP
    for row in range(2):
        for column in range(3):
            shown = tile_at(sheet, row, column, width=16, left=0, top=top)
            np.testing.assert_array_equal(shown, tiles[row, column])


def test_enlarging_keeps_flat_colours_and_size():
    flat = np.full((64, 64, 3), (10, 200, 90), np.uint8)
    large = np.asarray(sheets.enlarge(flat, 192))
    assert large.shape == (192, 192, 3)
    np.testing.assert_array_equal(np.unique(large.reshape(-1, 3), axis=0), [[10, 200, 90]])


def test_a_contact_sheet_starts_with_the_stimulus_of_the_lowest_id(world):
    sheet = gallery.draw_variant_sheet(
        path_to_stimuli=world.stimuli,
        paths_to_reconstructions=sorted(
            (world.results / "reconstructions/guided/subj01").glob("*.h5")
        ),
        paths_to_selection=[],
        images=3,
        width=64,
    )
    stimulus = read_images(world.stimuli, ids_of(world)[:1])[0].astype(int)
    pixels = np.asarray(sheet).astype(int)
    places = [
        (y, x)
        for y in range(0, 60)
        for x in range(0, 80)
        if pixels[y : y + 64, x : x + 64].shape == stimulus.shape
        and np.abs(pixels[y : y + 64, x : x + 64] - stimulus).mean() < 1
    ]
    assert len(places) == 1


@pytest.mark.parametrize("images", [2, 5])
def test_a_contact_sheet_grows_with_its_images(world, images):
    shards = sorted((world.results / "reconstructions/guided/subj01").glob("*.h5"))
    sheet = gallery.draw_variant_sheet(
        path_to_stimuli=world.stimuli,
        paths_to_reconstructions=shards,
        paths_to_selection=[],
        images=images,
        width=64,
    )
    rows = -(-images // 2)
    assert sheet.size[1] >= rows * 64
    assert sheet.size[1] < (rows + 1) * 68


def contains(sheet, picture):
    """Whether a sheet shows a picture pixel by pixel."""
    pixels = np.asarray(sheet)
    size = len(picture)
    corners = np.argwhere((pixels == picture[0, 0]).all(axis=-1))
    return any(np.array_equal(pixels[y : y + size, x : x + size], picture) for y, x in corners)


def test_a_contact_sheet_shows_the_chosen_repeat_of_a_selection(world):
    shards = [p for p in world.paths("reconstructions") if p.parts[-2] == "subj01"]
    chosen = chosen_repeats(world, ids_of(world)[:3])
    selection = world.results / "selections/guided_best/subj01.csv"
    alone = gallery.draw_variant_sheet(
        path_to_stimuli=world.stimuli,
        paths_to_reconstructions=[p for p in shards if p.parts[-3] == "guided"],
        paths_to_selection=[selection],
        images=3,
        width=64,
    )
    unchosen = pictures.read_repeats(
        Sources({"reconstructions": shards}),
        variant="guided",
        maker="guided",
        subject="subj01",
        ids=[1],
    )[1][1]
    assert all(contains(alone, picture) for picture in chosen.values())
    assert not contains(alone, unchosen)


def test_sheets_have_the_same_bytes_when_drawn_again():
    tiles = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 8, 3), dtype=np.uint8)
    made = [sheets.draw_grid(tiles, columns=["a", "b"], rows=["c"], width=64) for _ in range(2)]
    encoded = [sheets.encode_png(sheet) for sheet in made]
    assert encoded[0] == encoded[1]
    assert Image.open(io.BytesIO(encoded[0])).size == made[0].size
