"""The two scripts from files to files, as their rules call them."""

import shutil

import calibrate_guidance
import h5py
import numpy as np
import pytest
import reconstruct_images
import torch
from planted_responses import SETTINGS as ENCODING
from planted_responses import as_stored, plant
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
from neuraldiffuser.encoding.prediction import load_encoder, save_encoder
from neuraldiffuser.encoding.training import train_gnet
from neuraldiffuser.errors import DataError

STATISTICS = ("mean", "std", "test_mean", "test_std")
SCALE_OF_VOXELS = 30.0
TARGETS = tuple(f"clip_image_{layer:02d}" for layer in (2, 4, 6, 8, 10, 12))
HELD_OUT = np.array([60, 61, 62, 63])
SETTINGS = make_settings(
    shards=2,
    repeats=2,
    steps=6,
    calibration_images=3,
    guidance={"clip_layers": {"loss": "sum_squares"}, "color": {"grid": 4}},
    variants={"every": {"guidance": {"clip_layers": {}, "color": {}, "encoder": {}}}},
    selections={},
    run=["every"],
)


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


@pytest.fixture(scope="module")
def path_to_voxels(tmp_path_factory):
    """voxels/subj01.h5: responses to test and held-out images, each shown once in one session."""
    arrays = {f"statistics/{name}": np.ones((1, 4)) for name in STATISTICS}
    arrays |= {"statistics/session": np.array([1]), "statistics/valid": np.ones((1, 4), bool)}
    arrays |= {"voxel/index": np.arange(4), "voxel/roi": np.zeros(4, np.uint8)}
    arrays |= {"voxel/noise_ceiling": np.ones(4, np.float32)}
    for split, ids in (("test", IDS), ("training", HELD_OUT)):
        betas = np.random.default_rng(len(ids)).normal(size=(len(ids), 4)).astype(np.float32)
        arrays |= {f"{split}/id": ids, f"{split}/betas": betas}
        arrays |= {f"{split}/repeat": np.zeros(len(ids), int)}
        arrays |= {f"{split}/session": np.ones(len(ids), int)}
    attributes = {"subject": "subj01", "missing_sessions": np.array([], int), "dropped_voxels": 0}
    path = tmp_path_factory.mktemp("voxels") / "voxels" / "subj01.h5"
    storage.write_arrays(path, arrays, attributes | {"volume_shape": np.array([1, 1, 4])})
    return path


@pytest.fixture(scope="module")
def paths_to_encoder(tmp_path_factory):
    """encoders/subj01.safetensors, fitted to planted responses, and encoders/subj01.h5."""
    folder = tmp_path_factory.mktemp("encoders")
    paths = [folder / "subj01.safetensors", folder / "subj01.h5"]
    trials = plant(160, seed=0), plant(40, seed=1)
    encoder, _ = train_gnet(
        *trials, settings=ENCODING, seed=0, device="cpu", path_to_checkpoint=folder / "partial"
    )
    save_encoder(paths[0], as_stored(encoder), settings=ENCODING.network, metadata={})
    arrays = {"roi": np.zeros(4, np.uint8), "index": np.arange(4)}
    arrays |= {name: np.ones(4) for name in ("correlation", "held_out_correlation")}
    storage.write_arrays(paths[1], arrays, {"subject": "subj01"})
    return paths


@pytest.fixture
def inputs(
    paths_to_embeddings,
    path_to_voxels,
    paths_to_encoder,
    path_to_stable_diffusion,
    path_to_clip,
    clip_image,
    tmp_path,
):
    """What both scripts are given for a variant, as their rules give it."""
    guiding = {
        "clip_layers": paths_to_embeddings[2:],
        "color": paths_to_embeddings[:1],
        "encoder": [path_to_voxels],
    }

    def describe(variant):
        models = {"stable_diffusion": path_to_stable_diffusion}
        if "clip_layers" in variant.terms:
            models["clip_image"] = path_to_clip
        return {
            "paths_to_conditions": paths_to_embeddings[:2],
            "paths_to_guiding": [path for name in variant.terms for path in guiding[name]],
            "paths_to_encoder": paths_to_encoder if "encoder" in variant.terms else [],
            "paths_to_models": models,
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
                settings=SETTINGS.image_settings["every"],
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


def distance_to_voxels(images, paths_to_encoder, path_to_voxels):
    """Mean squared difference between predicted and measured responses."""
    encoder = load_encoder(paths_to_encoder[0]).network
    measured = storage.read_array(path_to_voxels, "test/betas")
    shown = torch.from_numpy(images).permute(0, 1, 4, 2, 3) / 255
    predicted = torch.stack([encoder(some) for some in shown])
    return float((predicted - torch.from_numpy(measured)[:, None]).square().mean())


def test_measured_voxels_guide(reconstruct, paths_to_encoder, path_to_voxels):
    def tell(scale):
        variant = Variant(guidance="encoder", scale=scale, strength=1.0)
        ids, images, told = reconstruct(f"scale_{scale:g}", variant)
        assert np.array_equal(ids, IDS) and told["guidance"] == "encoder"
        return distance_to_voxels(images, paths_to_encoder, path_to_voxels)

    assert tell(SCALE_OF_VOXELS) < 0.98 * tell(0)


def test_functions_of_a_sum_are_calibrated_each_by_itself_and_guide_together(
    inputs, reconstruct, tmp_path
):
    def calibrate(name, functions):
        variant = Variant(guidance={function: {} for function in functions}, strength=0.5)
        path = tmp_path / "calibrations" / name / "subj01.json"
        calibrate_guidance.calibrate_guidance(
            **inputs(variant),
            path_to_calibration=path,
            settings=SETTINGS.calibration_settings["every"],
        )
        return variant, path

    both, path = calibrate("both", ("clip_layers", "color"))
    alone = {name: storage.read_json(calibrate(name, [name])[1])[name] for name in both.terms}
    assert storage.read_json(path) == alone
    _, images, told = reconstruct("both", both, calibrations=[path])
    assert told["guidance"] == "clip_layers + color"
    for name, found in alone.items():
        assert told[f"scale_{name}"] == found["scale"]
        single = Variant(guidance=name, scale=found["scale"], strength=0.5)
        assert (reconstruct(name, single)[1] != images).any()


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
        settings=SETTINGS.calibration_settings["every"],
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
            settings=SETTINGS.calibration_settings["every"],
        )
    assert str(error.value) == sentence
