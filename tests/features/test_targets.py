import json
import shutil
import signal
from dataclasses import replace

import extraction_jobs
import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from neuraldiffuser import storage
from neuraldiffuser.config.targets import ClipTextSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.features import targets, vae_latent
from neuraldiffuser.features.clip_image import load_clip_image
from neuraldiffuser.features.clip_text import load_clip_text
from neuraldiffuser.features.images import to_unit_range
from neuraldiffuser.nsd import captions, files
from neuraldiffuser.nsd.design import join_trials
from neuraldiffuser.nsd.stimuli import read_images

SESSIONS = extraction_jobs.SESSIONS
LATENT = extraction_jobs.LATENT
LAYERS = extraction_jobs.LAYERS


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


@pytest.fixture(scope="module")
def sources(tiny_bucket, annotations, stable_diffusion, clip_folder, tmp_path_factory):
    receipts = tmp_path_factory.mktemp("receipts")
    return extraction_jobs.Sources(
        tiny_bucket, annotations, stable_diffusion, clip_folder, receipts
    )


def extract_latents(sources, folder, **changes):
    (path,) = extraction_jobs.extract_latents(sources, folder, **{"settings": LATENT} | changes)
    return path


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


def test_latents_equal_each_image_alone(tmp_path, sources, stimuli, stable_diffusion):
    path = extract_latents(sources, tmp_path)
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
def test_every_setting_changes_the_latents(tmp_path, sources, settings):
    first = extract_latents(sources, tmp_path / "a")
    other = extract_latents(sources, tmp_path / "b", settings=settings)
    before, after = (storage.read_array(path, "embedding") for path in (first, other))
    assert before.shape != after.shape or np.abs(before - after).max() > 1e-2


def test_the_seed_changes_samples_alone(tmp_path, sources):
    def latents(posterior, seed):
        settings = LATENT.model_copy(update={"posterior": posterior})
        path = extract_latents(sources, tmp_path, settings=settings, seed=seed)
        return storage.read_array(path, "embedding")

    assert np.array_equal(latents("mode", 0), latents("mode", 1))
    assert np.abs(latents("sample", 0) - latents("sample", 1)).max() > 0.1


def test_clip_layers_are_those_that_guide(tmp_path, sources, stimuli, clip_folder):
    paths = extraction_jobs.extract_layers(sources, tmp_path, dtype="float16")
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
def test_captions_belong_to_their_images(tmp_path, sources, stable_diffusion, selection):
    settings = ClipTextSettings(captions=selection)
    (path,) = extraction_jobs.extract_texts(sources, tmp_path, settings=settings)
    ids = storage.read_array(path, "id")[[50, 2]]
    written = captions.read_captions(
        path_to_information=sources.bucket / files.STIMULUS_INFORMATION,
        paths_to_annotations=sources.annotations,
        ids=ids,
    )
    assert len(written[int(ids[0])]) == 5
    text = load_clip_text(stable_diffusion)
    for row, id_73k in zip(storage.read_rows(path, ids), ids.tolist(), strict=True):
        chosen = written[id_73k] if selection == "mean" else written[id_73k][:1]
        expected = sum(text.embed([caption])[0] for caption in chosen) / len(chosen)
        np.testing.assert_allclose(row, expected, atol=1e-4)


# --- what may change nothing ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(extraction_jobs.EXTRACTIONS))
def whole(request, sources, tmp_path_factory):
    """An extraction by one thread that nothing interrupts, and its files."""
    job = extraction_jobs.Job(request.param, sources, tmp_path_factory.mktemp(request.param))
    assert extraction_jobs.run_apart(job) == 0
    return job, {path.name: path for path in job.folder.iterdir()}


def read_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_and_continued_by_more_threads_gives_the_same_bytes(whole, tmp_path):
    job, paths = whole
    batches = len(paths) * 6  # two pieces and two of the third piece's four
    killed = replace(job, folder=tmp_path, dies_at=batches - 1, threads=2)
    assert extraction_jobs.run_apart(killed) == -signal.SIGKILL
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & set(paths) and any(name.endswith(".progress.json") for name in names)
    assert storage.read_json(next(tmp_path.glob(".*.progress.json")))["rows"] == 32
    assert extraction_jobs.run_apart(replace(killed, dies_at=-1, threads=3)) == 0
    assert read_bytes(tmp_path) == read_bytes(job.folder)


def test_killed_and_continued_with_another_configuration_of_the_model_begins_anew(
    sources, tmp_path
):
    model = tmp_path / "model"
    shutil.copytree(sources.stable_diffusion, model)
    sources = replace(sources, stable_diffusion=model, receipts=tmp_path / "receipts")
    killed = extraction_jobs.Job("latents", sources, tmp_path / "killed", dies_at=5)
    assert extraction_jobs.run_apart(killed) == -signal.SIGKILL
    (progress,) = killed.folder.glob(".*.progress.json")
    assert storage.read_json(progress)["rows"] == 32
    configuration = storage.read_json(model / "vae" / "config.json")
    configuration["scaling_factor"] *= 2
    (model / "vae" / "config.json").write_text(json.dumps(configuration))
    for job in (replace(killed, dies_at=-1), replace(killed, dies_at=-1, folder=tmp_path / "new")):
        assert extraction_jobs.run_apart(job) == 0
    assert read_bytes(killed.folder) == read_bytes(tmp_path / "new")


def test_another_batch_size_changes_one_place_of_float16(whole, tmp_path):
    job, paths = whole
    assert extraction_jobs.run_apart(replace(job, folder=tmp_path, batch_size=5)) == 0
    for name, path in paths.items():
        first, other = (storage.read_array(each, "embedding") for each in (path, tmp_path / name))
        rounded = first.astype(np.float16), other.astype(np.float16)
        # Values near zero are differences of large ones: their place is that of a thousandth of
        # the largest.
        least = np.float16(np.abs(rounded[0]).max() / 1000)
        place = np.spacing(np.maximum(np.abs(rounded[0]), least))
        assert (np.abs(rounded[0] - rounded[1]) <= place).all()


def test_order_of_images_changes_nothing(sources, clip_folder, stable_diffusion):
    """Rows follow the ids they were asked for, whatever comes before and after."""
    clip = load_clip_image(
        clip_folder, node="block_output", normalisation="clip", antialias=True, layers=LAYERS
    )
    extraction = targets.extract_clip_images(clip, sources.stimuli, dtype="float32")
    autoencoder = vae_latent.load_encoder(stable_diffusion / "vae")
    draws = targets.extract_vae_latents(
        autoencoder,
        sources.stimuli,
        settings=LATENT.model_copy(update={"posterior": "sample"}),
        seed=3,
        dtype="float32",
    )
    ids = np.array([4, 9, 17, 30, 31, 33])
    for extract in (extraction, draws):
        (straight,) = extract([ids])
        (turned,) = extract([ids[::-1]])
        for name, rows in straight.items():
            np.testing.assert_allclose(turned[name][::-1], rows, atol=1e-5)
            assert np.abs(rows[0] - rows[1]).max() > 1e-2


@pytest.mark.parametrize(
    ("device", "numbers", "size"),
    [
        ("cpu", 128 * 512**2, 1),  # Stable Diffusion's autoencoder
        ("cuda", 128 * 512**2, 8),
        ("cpu", 50 * 3072, 16),  # ViT-B/32
        ("cuda", 50 * 3072, 128),
        ("cpu", 5 * 77 * 3072, 3),  # captions of an image
    ],
)
def test_batches_fit_the_device(device, numbers, size):
    assert targets.choose_batch_size(device, numbers) == size


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(extraction_jobs.EXTRACTIONS))
def test_precision_is_the_models_own(sources, tmp_path, kind):
    """float16 and bfloat16 differ from float32 by a few of their places, and are recorded."""
    found = {}
    for precision in ("float32", "float16", "bfloat16"):
        path = extraction_jobs.EXTRACTIONS[kind](sources, tmp_path, precision=precision)[-1]
        found[precision] = storage.read_array(path, "embedding")
        assert storage.read_attributes(path)["precision"] == precision
    size = np.sqrt(np.square(found["float32"]).mean())
    errors = {
        precision: np.sqrt(np.square(values - found["float32"]).mean()) / size
        for precision, values in found.items()
    }
    assert 1e-5 < errors["float16"] < 1e-2
    assert 2 * errors["float16"] < errors["bfloat16"] < 5e-2


def test_half_precision_on_a_processor_is_remarked_on(caplog):
    assert targets.dtype_of("float32") is torch.float32 and not caplog.messages
    assert targets.dtype_of("float16") is torch.float16
    assert "set targets.precision to float32" in caplog.text


def test_values_beyond_float16_are_refused(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(vae_latent, "encode_latents", encode_hugely)
    sentence = "16 of 16 images, .* not finite as float16; set targets.precision and targets.dtype"
    with pytest.raises(DataError, match=sentence):
        extract_latents(sources, tmp_path, dtype="float16")


def encode_hugely(_autoencoder, images, **_):
    return torch.full((len(images), *tiny_models.LATENT_SHAPE), 1e5)
