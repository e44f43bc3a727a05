"""The two scripts from files to files, as their rules call them."""

import calibrate_guidance
import numpy as np
import pytest
import reconstruct_images
from tiny_engine import IDS, make_embeddings, make_settings

from neuraldiffuser import storage
from neuraldiffuser.config.reconstruction import Variant
from neuraldiffuser.diffusion.store import read_reconstructions

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
        storage.write_arrays(folder / target / "subj01.h5", content)
    return [folder / target / "subj01.h5" for target in arrays]


@pytest.fixture
def reconstruct(paths_to_embeddings, path_to_stable_diffusion, path_to_clip, clip_image, tmp_path):
    """Runs both shards of a variant; gives ids, images and the first shard's attributes."""

    def run(variant, *, calibrations=(), name="variant"):
        paths = [tmp_path / name / f"shard-{shard}.h5" for shard in range(2)]
        guides = variant.guidance != "none"
        for shard, path in enumerate(paths):
            reconstruct_images.reconstruct_images(
                paths_to_embeddings=paths_to_embeddings if guides else paths_to_embeddings[:2],
                paths_to_models=[path_to_stable_diffusion, *([path_to_clip] if guides else [])],
                paths_to_calibrations=calibrations,
                path_to_reconstructions=path,
                shard=shard,
                settings=SETTINGS.image_settings,
                variant=variant,
                clip_image=clip_image,
                seed=42,
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
    outcomes = {name: reconstruct(variant, name=name) for name, variant in variants.items()}
    for ids, images, _ in outcomes.values():
        assert np.array_equal(ids, IDS)
        assert images.shape == (3, 2, 32, 32, 3)
    assert len({images.tobytes() for _, images, _ in outcomes.values()}) == len(variants)
    assert outcomes["guided"][2]["scale"] == 0.05
    assert outcomes["unguided"][2]["scale"] == 0
    assert outcomes["wrong_image"][2]["features"] == "another_image"


def test_a_calibrated_scale_is_used(
    reconstruct, paths_to_embeddings, path_to_stable_diffusion, path_to_clip, clip_image, tmp_path
):
    path = tmp_path / "calibration.json"
    automatic = Variant(scale="auto", ratio=0.4, strength=0.5)
    calibrate_guidance.calibrate_guidance(
        paths_to_embeddings=paths_to_embeddings,
        paths_to_models=[path_to_stable_diffusion, path_to_clip],
        path_to_calibration=path,
        settings=SETTINGS.calibration_settings,
        variant=automatic,
        clip_image=clip_image,
        seed=42,
    )
    found = storage.read_json(path)
    assert set(found) == {"scale", "ratio", "ratio_low", "ratio_high", "images"}
    assert found["images"] == 3
    by_calibration = reconstruct(automatic, calibrations=[path], name="auto")
    by_number = reconstruct(Variant(scale=found["scale"], strength=0.5), name="number")
    assert np.array_equal(by_calibration[1], by_number[1])
    half = reconstruct(
        Variant(scale="auto", scale_factor=0.5, strength=0.5), calibrations=[path], name="half"
    )
    assert half[2]["scale"] == pytest.approx(found["scale"] / 2)
