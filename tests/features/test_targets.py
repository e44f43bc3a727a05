import numpy as np
import pytest
import tiny_bucket
import tiny_models
import torch
from extract_clip_image import extract_clip_image
from extract_clip_text import extract_clip_text
from extract_vae_latent import extract_vae_latent
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.config.targets import ClipImageSettings, ClipTextSettings, VaeLatentSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import targets, vae_latent
from neuraldiffuser.features.clip_image import load_clip_image
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.images import to_unit_range
from neuraldiffuser.nsd import captions, files
from neuraldiffuser.nsd.design import join_trials
from neuraldiffuser.nsd.stimuli import read_images

SESSIONS = dict.fromkeys(tiny_bucket.SUBJECTS, 3)
LATENT = VaeLatentSettings(autoencoder="stable_diffusion", image_size=32, source_size=None)
LAYERS = (2, 6, 12)


@pytest.fixture(scope="module")
def responses(tiny_bucket):
    return [tiny_bucket / files.responses(subject) for subject in ("subj01", "subj02")]


@pytest.fixture(scope="module")
def stimuli(tiny_bucket):
    return tiny_bucket / files.STIMULI


@pytest.fixture(scope="module")
def annotations(tiny_bucket, tmp_path_factory):
    paths = [tmp_path_factory.mktemp("captions") / name.split("/")[-1] for name in files.CAPTIONS]
    captions.unpack(tiny_bucket / files.CAPTIONS_ARCHIVE, paths)
    return paths


def extract_latents(folder, stimuli, responses, stable_diffusion, **changes):
    arguments = {"settings": LATENT, "precision": "float32", "dtype": "float32", "seed": 0}
    extract_vae_latent(
        path_to_stimuli=stimuli,
        paths_to_responses=responses,
        path_to_weights=stable_diffusion / "vae" / "diffusion_pytorch_model.safetensors",
        path_to_target=folder / "vae_latent.h5",
        sessions=SESSIONS,
        **arguments | changes,
    )
    return folder / "vae_latent.h5"


def test_names_follow_the_layers():
    assert targets.target_names((2, 12)) == (
        "vae_latent",
        "clip_text",
        "clip_image_02",
        "clip_image_12",
    )


def test_ids_in_use_are_those_of_the_trials_that_are_used(tiny_bucket, responses):
    def seen(subject, sessions):
        trials = join_trials(
            path_to_design=tiny_bucket / files.DESIGN,
            path_to_responses=tiny_bucket / files.responses(subject),
            subject=subject,
        )
        return set(trials.loc[trials["session"] <= sessions, "id"])

    everything = targets.find_ids_in_use(responses, sessions=SESSIONS)
    assert set(everything) == seen("subj01", 3) | seen("subj02", 3)
    assert len(everything) == 12 + 2 * 28
    fewer = targets.find_ids_in_use(responses, sessions={"subj01": 1, "subj02": 2})
    assert set(fewer) == seen("subj01", 1) | seen("subj02", 2)
    assert np.array_equal(fewer, np.unique(fewer))
    with pytest.raises(DataError, match="belongs to subj02, which nsd.sessions does not list"):
        targets.find_ids_in_use(responses, sessions={"subj01": 1})


def test_latents_equal_each_image_alone(tmp_path, stimuli, responses, stable_diffusion):
    path = extract_latents(tmp_path, stimuli, responses, stable_diffusion)
    ids = storage.read_array(path, "id")
    autoencoder = vae_latent.load_autoencoder(stable_diffusion / "vae")
    for row in (0, 31, len(ids) - 1):
        picture = Image.fromarray(read_images(stimuli, ids[row : row + 1])[0])
        small = np.asarray(picture.resize((32, 32), Image.Resampling.LANCZOS), np.float32)
        image = torch.from_numpy(small).permute(2, 0, 1)[None] / 127.5 - 1
        expected = 0.5 * autoencoder.encode(image).latent_dist.mean
        stored = storage.read_rows(path, ids[row : row + 1])
        np.testing.assert_allclose(stored, expected, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        LATENT.model_copy(update={"posterior": "sample"}),
        LATENT.model_copy(update={"source_size": 16}),
        LATENT.model_copy(update={"image_size": 64}),
    ],
)
def test_every_setting_changes_the_latents(
    tmp_path, stimuli, responses, stable_diffusion, settings
):
    first = extract_latents(tmp_path / "a", stimuli, responses, stable_diffusion)
    other = extract_latents(tmp_path / "b", stimuli, responses, stable_diffusion, settings=settings)
    before, after = (storage.read_array(path, "embedding") for path in (first, other))
    assert before.shape != after.shape or np.abs(before - after).max() > 1e-2


def test_the_seed_changes_samples_alone(tmp_path, stimuli, responses, stable_diffusion):
    def latents(posterior, seed):
        settings = LATENT.model_copy(update={"posterior": posterior})
        path = extract_latents(
            tmp_path, stimuli, responses, stable_diffusion, settings=settings, seed=seed
        )
        return storage.read_array(path, "embedding")

    assert np.array_equal(latents("mode", 0), latents("mode", 1))
    assert np.abs(latents("sample", 0) - latents("sample", 1)).max() > 0.1


def test_clip_layers_are_those_that_guide(tmp_path, stimuli, responses, clip_folder):
    settings = ClipImageSettings(layers=LAYERS, node="block_output", normalisation="clip")
    paths = [tmp_path / f"clip_image_{layer:02d}.h5" for layer in LAYERS]
    extract_clip_image(
        path_to_stimuli=stimuli,
        paths_to_responses=responses,
        path_to_weights=clip_folder / "open_clip_model.safetensors",
        paths_to_targets=paths,
        settings=settings,
        precision="float32",
        dtype="float16",
        sessions=SESSIONS,
    )
    clip = load_clip_image(
        clip_folder, node="block_output", normalisation="clip", antialias=False, layers=LAYERS
    )
    ids = storage.read_array(paths[0], "id")[[3, 40]]
    alone = [clip(to_unit_range(read_images(stimuli, ids[row : row + 1]))) for row in (0, 1)]
    for layer, path in zip(LAYERS, paths, strict=True):
        stored = storage.read_rows(path, ids)
        assert stored.shape == (2, *tiny_models.CLIP_SHAPE)
        assert storage.read_attributes(path)["target"] == f"clip_image_{layer:02d}"
        for row in (0, 1):
            np.testing.assert_allclose(stored[row], alone[row][layer][0], atol=2e-3)


@pytest.mark.parametrize("selection", ["mean", "first"])
def test_captions_belong_to_their_images(
    tmp_path, tiny_bucket, responses, annotations, stable_diffusion, selection
):
    path = tmp_path / "clip_text.h5"
    information = tiny_bucket / files.STIMULUS_INFORMATION
    extract_clip_text(
        path_to_information=information,
        paths_to_annotations=annotations,
        paths_to_responses=responses,
        path_to_weights=stable_diffusion / "text_encoder" / "model.safetensors",
        path_to_target=path,
        settings=ClipTextSettings(captions=selection),
        precision="float32",
        dtype="float32",
        sessions=SESSIONS,
    )
    ids = storage.read_array(path, "id")[[50, 2]]
    written = captions.read_captions(
        path_to_information=information, paths_to_annotations=annotations, ids=ids
    )
    text = load_clip_text(stable_diffusion)
    for row, id_73k in zip(storage.read_rows(path, ids), ids.tolist(), strict=True):
        chosen = written[id_73k] if selection == "mean" else written[id_73k][:1]
        expected = sum(text.embed([caption])[0] for caption in chosen) / len(chosen)
        np.testing.assert_allclose(row, expected, atol=1e-4)
    assert len(written[int(ids[0])]) == 5
