import dataclasses

import numpy as np
import pytest

from neuraldiffuser.mini import scenes


@pytest.fixture(scope="module")
def drawn():
    return scenes.draw_scenes(seed=3, scenes=range(150))


def inside(item, scene):
    """Pixels well within an object, (size, size) bool: shapes that fill their middle only."""
    on = scenes.canvas(len(scene.image))
    distance = np.hypot(on.x - item.centre[0], on.y - item.centre[1])
    return distance < 0.3 * item.radius


def test_a_scene_depends_on_its_id_and_seed_alone(drawn):
    again = scenes.draw_scene(seed=3, scene=117)
    assert np.array_equal(again.image, drawn[117].image)
    assert again.objects == drawn[117].objects
    assert not np.array_equal(scenes.draw_scene(seed=4, scene=117).image, again.image)


def test_the_global_generator_plays_no_part(drawn):
    np.random.seed(1)
    assert np.array_equal(scenes.draw_scene(seed=3, scene=5).image, drawn[5].image)


def test_batches_keep_the_order_of_the_ids_and_tell_their_progress(drawn):
    told = []
    batch = scenes.draw_scenes(seed=3, scenes=[40, 7, 22], progress=told.append)
    assert [scene.scene for scene in batch] == [40, 7, 22]
    assert np.array_equal(batch[1].image, drawn[7].image)
    assert told == [1, 2, 3]


def test_pictures_are_pixels_of_the_chosen_size():
    small, large = (scenes.draw_scene(seed=3, scene=8, size=size) for size in (48, 96))
    assert small.image.shape == (48, 48, 3) and large.image.shape == (96, 96, 3)
    assert small.image.dtype == np.uint8
    assert small.objects == large.objects


def test_size_changes_the_resolution_not_the_content():
    coarse = scenes.draw_scene(seed=3, scene=8, size=64).image.astype(float)
    fine = scenes.draw_scene(seed=3, scene=8, size=128).image.astype(float)
    shrunk = fine.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(coarse.ravel(), shrunk.ravel())[0, 1] > 0.95


def test_the_colour_in_the_words_is_the_colour_in_the_picture(drawn):
    for scene in drawn:
        for item in scene.objects:
            if item.kind in ("ball", "box", "star", "heart"):
                seen = np.median(scene.image[inside(item, scene)], axis=0) / 255
                expected = np.array(item.rgb)
                angle = seen @ expected / np.linalg.norm(seen) / np.linalg.norm(expected)
                assert angle > 0.985, (scene.scene, item, seen)


def test_size_and_place_in_words_agree_with_the_numbers(drawn):
    for item in (item for scene in drawn for item in scene.objects):
        assert item.radius == pytest.approx(scenes.SIZE_VALUES[item.size], rel=0.11)
        assert np.allclose(item.centre, scenes.PLACE_VALUES[item.place], atol=0.08)


def test_every_kind_colour_size_place_and_background_occurs(drawn):
    many = [*drawn, *scenes.draw_scenes(seed=3, scenes=range(150, 400))]
    items = [item for scene in many for item in scene.objects]
    assert {item.kind for item in items} == set(scenes.KINDS)
    assert {item.colour for item in items} == set(scenes.COLOURS)
    assert {item.size for item in items} == set(scenes.SIZES)
    assert {item.place for item in items} == set(scenes.PLACES)
    assert {scene.background for scene in many} == set(scenes.BACKGROUNDS)


def test_mostly_one_object_sometimes_two(drawn):
    pairs = np.mean([len(scene.objects) == 2 for scene in drawn])
    assert 0.1 < pairs < 0.3
    assert {len(scene.objects) for scene in drawn} == {1, 2}


def test_the_object_is_visible_against_its_background(drawn):
    contrasts = [
        np.abs(scene.image[inside(item, scene)].mean(axis=0) - scene.image.mean(axis=(0, 1))).max()
        for scene in drawn
        for item in scene.objects
        if item.kind in ("ball", "box")
    ]
    assert np.mean(np.array(contrasts) > 25) > 0.9


def test_five_different_captions_name_every_fact(drawn):
    for scene in drawn:
        told = scenes.captions(scene)
        assert len(set(told)) == 5
        for text in told:
            for item in scene.objects:
                assert item.kind in text and item.colour in text
                assert any(word in text for word in scenes.SIZE_PHRASES[item.size])
                assert any(words in text for words in scenes.PLACE_PHRASES[item.place])
            assert any(words in text for words in scenes.BACKGROUND_PHRASES[scene.background])


def test_captions_are_deterministic_and_within_the_vocabulary(drawn):
    words = {word for scene in drawn for text in scenes.captions(scene) for word in text.split()}
    assert words <= set(scenes.vocabulary())
    assert scenes.captions(drawn[3]) == scenes.captions(scenes.draw_scene(seed=3, scene=3))


def test_scenes_cannot_be_changed(drawn):
    with pytest.raises(dataclasses.FrozenInstanceError):
        drawn[0].background = "sky"


def test_texture_is_a_small_share_of_the_variance(drawn):
    """What no decoder can know must leave headroom for pixel correlation."""
    pixels = np.stack([scene.image for scene in drawn]).astype(float)
    coarse = pixels.reshape(-1, 16, 4, 16, 4, 3).mean(axis=(2, 4)).repeat(4, 1).repeat(4, 2)
    about_mean = pixels - pixels.mean(axis=(1, 2), keepdims=True)
    assert ((pixels - coarse) ** 2).mean() / (about_mean**2).mean() < 0.15
