"""What guides is refused where it belongs to other models, other targets or other voxels.

All of it has the shapes that are expected: nothing but its origin tells it apart.
"""

import numpy as np
import pytest
import torch
from collect_ground_truth import collect_ground_truth
from tiny_engine import IDS, make_embeddings

from neuraldiffuser import storage
from neuraldiffuser.config.targets import ClipImageSettings, ClipTextSettings, VaeLatentSettings
from neuraldiffuser.diffusion.compatibility import refuse_other_voxels, refuse_strangers
from neuraldiffuser.errors import DataError
from neuraldiffuser.features.targets import describe_target

CORRECTED = ClipImageSettings(
    layers=(2, 4), node="block_output", normalisation="clip", antialias=True
)
CLIP = {"clip/config.json": "c0", "clip/weights": "c1"}
DIFFUSION = {"tokenizer/vocabulary": "d0", "text_encoder/weights": "d1", "vae/weights": "d2"}
OTHER_AUTOENCODER = {"vae/weights": "e2"}


def write_receipts(folder, digests):
    """Receipts of files with the digests, by the name of their folder and their own."""
    for name, digest in digests.items():
        storage.write_json(folder / f"{name}.json", {"sha256": digest})
    return [folder / f"{name}.json" for name in digests]


@pytest.fixture
def embed(tmp_path):
    """Ground-truth embeddings of one target that was made with settings by a model."""
    voxels = tmp_path / "voxels/subj01.h5"
    storage.write_arrays(voxels, {"test/id": IDS[:1], "training/id": IDS[1:]})
    made = make_embeddings(["clip_image_02", "clip_image_04"])
    rows = {"vae_latent": made.latents, "clip_text": made.texts, **made.features}

    def write(target, settings, digests):
        receipts = write_receipts(tmp_path / f"receipts/{target}", digests)
        origin = describe_target(target, settings, precision="float32", paths_to_receipts=receipts)
        path_to_target = tmp_path / f"targets/{target}.h5"
        path = tmp_path / f"embeddings/{target}/stimulus.h5"
        storage.write_arrays(path_to_target, {"id": IDS, "embedding": rows[target]}, origin)
        collect_ground_truth(
            paths_to_voxels=[voxels],
            path_to_target=path_to_target,
            path_to_embeddings=path,
            target=target,
            validation_images=1,
            seed=0,
        )
        return path

    return write


@pytest.fixture
def refuse(tmp_path):
    """The check, with Stable Diffusion and one CLIP in place."""
    receipts = write_receipts(tmp_path / "receipts/read", DIFFUSION | CLIP)

    def run(*paths):
        refuse_strangers(paths, clip_image=CORRECTED, paths_to_receipts=receipts)

    return run


def test_what_was_decoded_for_them_is_read(embed, refuse):
    refuse(
        embed("vae_latent", VaeLatentSettings(), OTHER_AUTOENCODER),
        embed("clip_text", ClipTextSettings(), {"text_encoder/weights": "d1"}),
        embed("clip_image_02", CORRECTED, CLIP),
        embed("clip_image_04", CORRECTED, CLIP),
    )


@pytest.mark.parametrize(
    ("changes", "found", "expected"),
    [
        ({"node": "mlp_projection"}, "node mlp_projection", "node is block_output"),
        ({"normalisation": "imagenet"}, "normalisation imagenet", "normalisation is clip"),
        ({"antialias": False}, "antialias False", "antialias is True"),
        ({"layers": (2, 4, 6)}, "layers 2, 4, 6", "layers is 2, 4"),
    ],
)
def test_a_target_made_otherwise_is_refused(embed, refuse, changes, found, expected):
    right = embed("clip_image_02", CORRECTED, CLIP)
    wrong = embed("clip_image_04", CORRECTED.model_copy(update=changes), CLIP)
    shapes = {storage.read_array(path, "test/embedding").shape for path in (right, wrong)}
    assert len(shapes) == 1
    with pytest.raises(DataError) as error:
        refuse(right, wrong)
    assert str(error.value) == (
        f"{wrong} was decoded from targets of {found}, but targets.clip_image.{expected}; delete"
        " targets/clip_image_04.h5 and run the workflow again."
    )


@pytest.mark.parametrize(
    ("target", "settings", "digests", "stranger"),
    [
        ("clip_image_02", CORRECTED, CLIP | {"clip/weights": "x1"}, "clip/weights"),
        ("clip_text", ClipTextSettings(), {"text_encoder/weights": "x1"}, "text_encoder/weights"),
    ],
)
def test_a_target_of_another_model_is_refused(embed, refuse, target, settings, digests, stranger):
    path = embed(target, settings, digests)
    with pytest.raises(DataError) as error:
        refuse(path)
    assert str(error.value) == (
        f"{path} was decoded from targets made with another {stranger} than is read now; delete"
        f" targets/{target}.h5 and run the workflow again."
    )


def test_every_file_of_a_target_is_looked_at(embed, refuse):
    """Where the mean feature guides, decoded texts and those of the stimuli are both read."""
    stimuli = embed("clip_text", ClipTextSettings(), {"text_encoder/weights": "d1"})
    decoded = stimuli.with_name("subj01.h5")
    strange = {"settings": "{}", "model": '{"text_encoder/weights": "x1"}'}
    storage.write_arrays(decoded, {"test/id": IDS}, strange)
    with pytest.raises(DataError, match=f"{decoded} was decoded from targets made with another"):
        refuse(decoded, stimuli)


def test_a_file_that_does_not_say_how_its_target_was_made_is_refused(refuse, tmp_path):
    path = tmp_path / "clip_image_02/subj01.h5"
    storage.write_arrays(path, {"test/id": IDS, "test/embedding": np.zeros((3, 17, 16))})
    with pytest.raises(DataError) as error:
        refuse(path)
    assert str(error.value) == (
        f"{path} does not say how its target was made; delete it and run the workflow again."
    )


def test_voxels_are_none_of_its_business(refuse, tmp_path):
    refuse(tmp_path / "voxels/subj01.h5")


@pytest.fixture
def fit_encoder(tmp_path):
    """encoders/{subject}.safetensors and .h5 of a subject's voxels; only what they say of these."""

    def write(subject, index):
        paths = [tmp_path / f"encoders/{subject}{kind}" for kind in (".safetensors", ".h5")]
        tensors = {"index": torch.tensor(index)}
        storage.write_tensors(paths[0], tensors, {"subject": subject})
        storage.write_arrays(paths[1], {"index": np.array(index)}, {"subject": subject})
        return paths

    return write


@pytest.fixture
def measured(tmp_path):
    """What guides: a subject's three voxels, and latents."""
    path = tmp_path / "voxels/subj01.h5"
    storage.write_arrays(path, {"voxel/index": np.array([3, 8, 20])}, {"subject": "subj01"})
    return [tmp_path / "vae_latent/subj01.h5", path]


def test_the_encoder_of_the_voxels_may_guide(measured, fit_encoder):
    refuse_other_voxels(measured, fit_encoder("subj01", [3, 8, 20]))
    refuse_other_voxels(measured, [])
    refuse_other_voxels(measured[:1], fit_encoder("subj02", [3]))


@pytest.mark.parametrize("file", [0, 1], ids=["network", "accuracy"])
@pytest.mark.parametrize(
    ("subject", "index"),
    [("subj01", [3, 8, 21]), ("subj01", [8, 3, 20]), ("subj01", [3, 8]), ("subj02", [3, 8, 20])],
)
def test_an_encoder_of_other_voxels_is_refused(measured, fit_encoder, subject, index, file):
    encoder = fit_encoder(subject, index)[file]
    with pytest.raises(DataError) as error:
        refuse_other_voxels(measured, [encoder])
    assert str(error.value) == (
        f"{encoder} was not fitted to the voxels of {measured[1]}; delete it and run the"
        " workflow again."
    )
