"""The two scripts from files to files, as their rules call them."""

import shutil

import calibrate_guidance
import h5py
import numpy as np
import pytest
import reconstruct_images
from tiny_engine import (
    CLIP_IMAGE,
    IDS,
    describe_origin,
    make_embeddings,
    make_settings,
    write_receipt,
)

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.reconstruction import Term, Variant
from neuraldiffuser.diffusion.store import read_reconstructions
from neuraldiffuser.errors import DataError

TARGETS = tuple(f"clip_image_{layer:02d}" for layer in (2, 4, 6, 8, 10, 12))
HELD_OUT = np.array([60, 61, 62, 63])
SETTINGS = make_settings(shards=2, repeats=2, steps=6, calibration_images=3)


@pytest.fixture(scope="module")
def paths_to_embeddings(tmp_path_factory):
    """embeddings/{target}/subj01.h5 with test and held-out images."""
    folder = tmp_path_factory.mktemp("embeddings")
    arrays = {}
    for group, ids in (("test", IDS), ("validation", HELD_OUT)):
        made = make_embeddings(TARGETS, ids)
        named = {"vae_latent": made.latents, "clip_text": made.texts, **made.features}
        for target, rows in named.items():
            described = {f"{group}/id": ids, f"{group}/embedding": rows.astype(np.float32)}
            arrays.setdefault(target, {}).update(described)
    for target, content in arrays.items():
        storage.write_arrays(folder / target / "subj01.h5", content, describe_origin(target))
    return [folder / target / "subj01.h5" for target in arrays]


@pytest.fixture
def inputs(paths_to_embeddings, path_to_stable_diffusion, path_to_clip, clip_image, tmp_path):
    """What both scripts are given for a variant that CLIP layers guide, or that nothing guides."""

    def describe(variant):
        models = {"stable_diffusion": path_to_stable_diffusion}
        guides = "clip_layers" in variant.terms
        return {
            "paths_to_conditions": paths_to_embeddings[:2],
            "paths_to_guiding": paths_to_embeddings[2:] if guides else [],
            "paths_to_encoder": [],
            "paths_to_models": models | ({"clip_image": path_to_clip} if guides else {}),
            "paths_to_receipts": [write_receipt(tmp_path)],
            "variant": variant,
            "clip_image": clip_image,
            "missing_repeats": "skipped",
            "seed": 42,
        }

    return describe


@pytest.fixture
def reconstruct(inputs, tmp_path):
    """Runs both shards of a variant; gives ids, images and the first shard's attributes."""

    def run(name, variant, *, calibrations=(), **changes):
        paths = [tmp_path / name / f"shard-{shard}.h5" for shard in range(2)]
        for shard, path in enumerate(paths):
            reconstruct_images.reconstruct_images(
                **(inputs(variant) | changes),
                paths_to_calibrations=calibrations,
                path_to_reconstructions=path,
                name=name,
                shard=shard,
                settings=SETTINGS.image_settings["guided"],
            )
        return *read_reconstructions(paths), storage.read_attributes(paths[0])

    return run


def test_variants_reconstruct_every_test_image_differently(reconstruct):
    variants = {
        "guided": Variant(scale=0.05, strength=0.5),
        "unguided": Variant(guidance="none"),
        "wrong_image": Variant(scale=0.05, strength=0.5, features="another_image"),
        "mean_feature": Variant(scale=0.05, strength=0.5, features="mean"),
    }
    outcomes = {name: reconstruct(name, variant) for name, variant in variants.items()}
    for ids, images, _ in outcomes.values():
        assert np.array_equal(ids, IDS)
        assert images.shape == (3, 2, 32, 32, 3)
    assert len({images.tobytes() for _, images, _ in outcomes.values()}) == len(variants)
    guided, unguided = outcomes["guided"][2], outcomes["unguided"][2]
    assert (guided["guidance"], guided["scale_clip_layers"]) == ("clip_layers", 0.05)
    assert unguided["guidance"] == "none"
    assert not any(name.startswith("scale") for name in unguided)
    assert outcomes["wrong_image"][2]["features"] == "another_image"


def test_a_sum_of_one_function_is_that_function(reconstruct):
    flat = Variant(scale=0.05, strength=0.5)
    summed = Variant(guidance={"clip_layers": Term(scale=0.05)}, strength=0.5)
    assert np.array_equal(reconstruct("flat", flat)[1], reconstruct("summed", summed)[1])


def test_a_calibrated_scale_is_used_also_by_the_variant_that_borrows_it(
    inputs, reconstruct, tmp_path, monkeypatch
):
    """And told of in the provenance of what it makes."""
    monkeypatch.setattr(runtime, "_measured", {})
    path = tmp_path / "calibrations" / "lender" / "subj01.json"
    automatic = Variant(scale="auto", ratio=0.4, strength=0.5)
    calibrate_guidance.calibrate_guidance(
        **inputs(automatic),
        path_to_calibration=path,
        settings=SETTINGS.calibration_settings["guided"],
    )
    (function,) = storage.read_json(path)
    found = storage.read_json(path)[function]
    assert function == "clip_layers"
    assert set(found) == {"scale", "ratio", "ratio_low", "ratio_high", "images"}
    assert found["images"] == 3
    assert runtime._measured["scales"] == {function: found["scale"]}
    by_calibration = reconstruct("lender", automatic, calibrations=[path])
    by_number = reconstruct("number", Variant(scale=found["scale"], strength=0.5))
    assert np.array_equal(by_calibration[1], by_number[1])
    borrows = Variant(scale="lender", scale_factor=0.5, strength=0.5)
    half = reconstruct("half", borrows, calibrations=[path])
    assert half[2]["scale_clip_layers"] == pytest.approx(found["scale"] / 2)
    assert runtime._measured["scales"] == {function: half[2]["scale_clip_layers"]}
    assert runtime._measured["clipped_gradients"] == 0
    assert runtime._measured["precision"] == "float32"


@pytest.fixture
def copies(paths_to_embeddings, tmp_path):
    """The embedding files, for a test to change, by target."""
    paths = {
        path.parent.name: tmp_path / path.parent.name / path.name for path in paths_to_embeddings
    }
    for original, path in zip(paths_to_embeddings, paths.values(), strict=True):
        path.parent.mkdir()
        shutil.copy(original, path)
    return paths


@pytest.fixture
def reconstruct_copies(copies, reconstruct):
    """Guided reconstruction from these files."""

    def run(name):
        conditions, guiding = list(copies.values())[:2], list(copies.values())[2:]
        return reconstruct(
            name,
            Variant(scale=0.05, strength=0.5),
            paths_to_conditions=conditions,
            paths_to_guiding=guiding,
        )

    return run


def test_files_in_another_order_give_the_same_images(copies, reconstruct_copies):
    before = reconstruct_copies("before")
    for shift, path in enumerate(copies.values()):
        with h5py.File(path, "r+") as file:
            for name in ("test/id", "test/embedding"):
                file[name][:] = np.roll(file[name][()], shift, axis=0)
    after = reconstruct_copies("after")
    assert np.array_equal(before[0], after[0]) and np.array_equal(before[1], after[1])


def test_an_image_without_features_stops_it(copies, reconstruct_copies):
    path = copies["clip_image_06"]
    with h5py.File(path, "r+") as file:
        file["test/id"][1] = 99
    with pytest.raises(DataError) as error:
        reconstruct_copies("guided")
    assert str(error.value) == (
        f"{path} lacks 1 of the ids asked for, 205 among them; delete it and run the workflow"
        " again."
    )


def test_a_broken_number_stops_it(copies, reconstruct_copies):
    path = copies["clip_image_06"]
    with h5py.File(path, "r+") as file:
        file["test/embedding"][0, 3] = np.nan
    with pytest.raises(DataError) as error:
        reconstruct_copies("guided")
    assert str(error.value) == (
        f"test/embedding of {path} holds 16 non-finite values out of 544; remove or regenerate the"
        " file it came from."
    )


def test_features_of_another_node_stop_both_scripts(copies, inputs, reconstruct_copies, tmp_path):
    path = copies["clip_image_06"]
    other = CLIP_IMAGE.model_copy(update={"node": "mlp_projection"})
    with h5py.File(path, "r+") as file:
        file.attrs["settings"] = other.model_dump_json()
    sentence = (
        f"{path} was decoded from targets of node mlp_projection, but targets.clip_image.node is"
        " block_output; delete targets/clip_image_06.h5 and run the workflow again."
    )
    with pytest.raises(DataError) as error:
        reconstruct_copies("guided")
    assert str(error.value) == sentence
    guiding = {"paths_to_guiding": list(copies.values())[2:]}
    with pytest.raises(DataError) as error:
        calibrate_guidance.calibrate_guidance(
            **(inputs(Variant(scale="auto")) | guiding),
            path_to_calibration=tmp_path / "calibration.json",
            settings=SETTINGS.calibration_settings["guided"],
        )
    assert str(error.value) == sentence
