"""The real Snakefile fetches, checks and reads pretrained models, and reruns only what reads them.

One world and one server serve all tests of this file, so they share a worker.
"""

import hashlib
import os
import re
import shutil

import faulty_s3
import pytest
import yaml
from workflow import MINIATURE, REPOSITORY, World

from neuraldiffuser import storage

SHIPPED = REPOSITORY / "resources/mini_models"
CLIP_WEIGHTS = "open_clip_model.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"
CLIP_TARGETS = ["results/tiny/targets/clip_image_02.h5"]
TARGETS = [
    *CLIP_TARGETS,
    "results/tiny/targets/clip_text.h5",
    "results/tiny/targets/vae_latent.h5",
]
RECEIPTS = [
    "results/tiny/models/clip/open_clip_config.json.json",
    f"results/tiny/models/clip/{CLIP_WEIGHTS}.json",
]
ZOO = yaml.safe_load(MINIATURE.read_text())["models"]["zoo"]
NO_PIN = {"size": None, "sha256": None}


def place(folder):
    """Where models lie, as a change of the configuration."""
    return {"paths": {"models": str(folder)}}


def zoo(folder, **models):
    """Changed keys of some models, below a folder of models."""
    named = {name.replace("_", "-"): keys for name, keys in models.items()}
    return place(folder) | {"models": {"zoo": named}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """All targets, extracted with copies of the miniature's models in a folder of the user's."""
    world = World(tmp_path_factory.mktemp("world"))
    shutil.copytree(SHIPPED, world.folder / "models")
    answer = world.snakemake(*TARGETS, changes=place("models"))
    assert answer.succeeded, answer.text[-4000:]
    return world


@pytest.fixture
def models(world):
    """The folder of models; what a test changes there is put back as it was, dates included."""
    folder = world.folder / "models"
    before = {
        path: (path.read_bytes(), path.stat()) for path in folder.rglob("*") if path.is_file()
    }
    yield folder
    for path, (content, status) in before.items():
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def list_jobs(answer):
    """The files that a dry run would check."""
    return set(re.findall(r"checks (\S+) of ", answer.text))


def alter(path):
    """Changes the last byte of a file; returns what pins it then."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + (b" " if path.suffix == ".json" else bytes([content[-1] ^ 1])))
    return {"size": len(content), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


# --- reruns --------------------------------------------------------------------------------------


def test_nothing_is_done_twice(world):
    assert "Nothing to be done" in world.dry_run(*TARGETS, changes=place("models")).text


@pytest.mark.parametrize(
    ("model", "file", "readers"),
    [
        ("clip", CLIP_WEIGHTS, {"extract_clip_image"}),
        ("stable_diffusion", "text_encoder/model.safetensors", {"extract_clip_text"}),
        (
            "stable_diffusion",
            "vae/diffusion_pytorch_model.safetensors",
            {"extract_vae_latent"},
        ),
        ("stable_diffusion", "text_encoder/config.json", {"extract_clip_text"}),
    ],
)
def test_changed_weights_rerun_exactly_what_reads_them(world, models, model, file, readers):
    pin = alter(models / model.replace("_", "-") / file)
    answer = world.dry_run(*TARGETS, changes=zoo("models", **{model: {"files": {file: pin}}}))
    assert answer.rules_to_run == {"check_model", *readers}, answer.text
    assert list_jobs(answer) == {file}


@pytest.mark.parametrize(
    "keys", [{"licence": "other"}, {"files": {CLIP_WEIGHTS: NO_PIN}}], ids=["licence", "pin"]
)
def test_what_is_only_said_of_a_model_reruns_nothing(world, keys):
    answer = world.dry_run(*TARGETS, changes=zoo("models", clip=keys))
    assert "Nothing to be done" in answer.text


def test_weights_of_a_new_date_rerun_nothing(world, models):
    (models / "clip" / CLIP_WEIGHTS).touch()
    assert "Nothing to be done" in world.dry_run(*TARGETS, changes=place("models")).text


@pytest.mark.parametrize("added", [b"", b"longer"], ids=["same size", "longer"])
def test_weights_with_an_older_date_are_other_weights(world, models, added):
    weights = models / "clip" / CLIP_WEIGHTS
    alter(weights)
    weights.write_bytes(weights.read_bytes() + added)
    os.utime(weights, (1_577_836_800, 1_577_836_800))
    answer = world.dry_run(*TARGETS, changes=place("models"))
    assert answer.rules_to_run == {"check_model", "extract_clip_image"}, answer.text
    assert list_jobs(answer) == {CLIP_WEIGHTS}


def test_models_that_moved_rerun_nothing(world, tmp_path):
    moved = shutil.copytree(world.folder / "models", tmp_path / "moved")
    for changes in (place(moved), zoo("models", clip={"folder": str(moved / "clip")})):
        assert "Nothing to be done" in world.dry_run(*TARGETS, changes=changes).text


def test_weights_that_nobody_reads_may_be_listed(world, tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "models")
    half = "vae/diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(SHIPPED / "clip" / CLIP_WEIGHTS, tmp_path / "models/stable-diffusion" / half)
    changes = zoo(tmp_path / "models", stable_diffusion={"files": {half: {}}})
    answer = world.dry_run(*TARGETS, changes=changes)
    assert answer.succeeded, answer.text
    assert half in list_jobs(answer)


def test_receipts_tell_what_the_files_are(world):
    for file in ZOO["clip"]["files"]:
        content = (SHIPPED / "clip" / file).read_bytes()
        found = storage.read_json(world.folder / f"results/tiny/models/clip/{file}.json")
        assert found == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


# --- refusals ------------------------------------------------------------------------------------


def test_altered_weights_stop_before_anything_reads_them(world, models):
    found = alter(models / "clip" / CLIP_WEIGHTS)
    answer = world.snakemake(*CLIP_TARGETS, changes=place("models"))
    assert not answer.succeeded
    assert (
        f"models/clip/{CLIP_WEIGHTS} is {{size: {found['size']}, sha256: {found['sha256']}}}, but "
        f"models.zoo.clip.files.{CLIP_WEIGHTS} says {{size: "
    ) in answer.text
    assert "Traceback" not in answer.text
    assert "reads all guidance layers" not in answer.text


def test_a_wrong_pin_is_refused_before_anything_starts(world):
    assert world.snakemake(*RECEIPTS, changes=place("models")).succeeded
    wrong = {CLIP_WEIGHTS: {"sha256": "0" * 64}}
    answer = world.dry_run(*CLIP_TARGETS, changes=zoo("models", clip={"files": wrong}))
    assert not answer.succeeded
    found = ZOO["clip"]["files"][CLIP_WEIGHTS]
    assert f"is {{size: {found['size']}, sha256: {found['sha256']}}}, but " in answer.text
    assert f"says {{size: {found['size']}, sha256: {'0' * 64}}}; put the right one" in answer.text


def test_missing_files_of_ones_own_are_named_before_anything_starts(world, tmp_path):
    answer = world.dry_run(*CLIP_TARGETS, changes=zoo("models", clip={"folder": str(tmp_path)}))
    assert not answer.succeeded
    assert f"{tmp_path}/open_clip_config.json is missing; put the files of clip " in answer.text


@pytest.mark.parametrize(
    "file", ["tokenizer/added_tokens.json", "unet/diffusion_pytorch_model.safetensors.index.json"]
)
def test_a_file_that_would_be_read_but_is_not_listed_is_named(world, tmp_path, file):
    shutil.copytree(SHIPPED, tmp_path / "models")
    stray = tmp_path / "models/stable-diffusion" / file
    stray.write_text("{}")
    answer = world.dry_run("fetch_inputs", changes=place(tmp_path / "models"))
    assert not answer.succeeded
    assert (
        f"{stray} would be read, but models.zoo.stable-diffusion.files does not list it; list it "
        f"({file}: {{}}), or move it away."
    ) in answer.text


# --- sources -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with faulty_s3.serve() as running:
        running.put_folder(SHIPPED / "clip")
        yield running


def fetched_clip(server, models, **keys):
    address = f"{server.endpoint}/{faulty_s3.BUCKET}"
    return zoo(models, clip={"source": address} | keys)


def asked(server):
    return [exchange for exchange in server.exchanges if exchange.method == "GET"]


def test_a_folder_of_ones_own_is_read_in_place(world, tmp_path, server):
    own = tmp_path / "own"
    shutil.copytree(SHIPPED / "clip", own)
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    changes = fetched_clip(server, str(tmp_path), folder=str(own))
    number = len(asked(server))
    answer = world.snakemake(*RECEIPTS, changes=changes)
    assert answer.succeeded, answer.text[-3000:]
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before
    assert len(asked(server)) == number


def test_what_was_placed_by_hand_is_accepted_and_only_the_rest_is_fetched(world, tmp_path, server):
    placed = tmp_path / "clip/open_clip_config.json"
    placed.parent.mkdir()
    shutil.copy(SHIPPED / "clip/open_clip_config.json", placed)
    before = placed.stat().st_mtime_ns
    changes = fetched_clip(server, str(tmp_path))
    number = len(asked(server))
    answer = world.snakemake(*RECEIPTS, changes=changes)
    assert answer.succeeded, answer.text[-3000:]
    assert {exchange.key for exchange in asked(server)[number:]} == {CLIP_WEIGHTS}
    assert placed.stat().st_mtime_ns == before
    fetched = tmp_path / "clip" / CLIP_WEIGHTS
    assert fetched.read_bytes() == (SHIPPED / "clip" / CLIP_WEIGHTS).read_bytes()


def test_a_digest_that_is_pinned_later_fetches_nothing_and_reruns_no_reader(tmp_path, server):
    world = World(tmp_path)
    unpinned = {"files": dict.fromkeys(ZOO["clip"]["files"], NO_PIN)}
    first = world.snakemake(*CLIP_TARGETS, changes=fetched_clip(server, "models", **unpinned))
    assert first.succeeded, first.text[-4000:]
    sha256 = ZOO["clip"]["files"][CLIP_WEIGHTS]["sha256"]
    assert f"{CLIP_WEIGHTS} is not pinned: to accept no other file, pin {{size: " in first.text
    assert f"sha256: {sha256}}}" in first.text
    later = world.dry_run(*CLIP_TARGETS, changes=fetched_clip(server, "models"))
    assert "Nothing to be done" in later.text
    (tmp_path / "models/clip" / CLIP_WEIGHTS).unlink()
    gone = world.dry_run(*CLIP_TARGETS, changes=fetched_clip(server, "models"))
    assert gone.rules_to_run == {"fetch_model", "check_model"}
    assert world.snakemake(*CLIP_TARGETS, changes=fetched_clip(server, "models")).succeeded
    again = world.dry_run(*CLIP_TARGETS, changes=fetched_clip(server, "models"))
    assert "Nothing to be done" in again.text, again.text
    (tmp_path / "models/clip" / CLIP_WEIGHTS).unlink()
    changes = fetched_clip(server, "models") | {"targets": {"clip_image": {"antialias": False}}}
    assert world.snakemake(*CLIP_TARGETS, changes=changes).succeeded


def test_another_source_is_fetched_anew(world, tmp_path, server):
    assert world.snakemake(*RECEIPTS, changes=fetched_clip(server, str(tmp_path))).succeeded
    elsewhere = fetched_clip(server, str(tmp_path), source="https://localhost/elsewhere")
    assert "fetch_model" in world.dry_run(*RECEIPTS, changes=elsewhere).rules_to_run


def test_what_arrives_otherwise_than_pinned_is_refused(world, tmp_path, server):
    wrong = "0" * 64
    changes = fetched_clip(server, str(tmp_path), files={CLIP_WEIGHTS: {"sha256": wrong}})
    answer = world.snakemake(*RECEIPTS, changes=changes)
    assert not answer.succeeded
    assert f"not {wrong} as it is pinned; name the source of the pinned file" in answer.text
    assert "Traceback" not in answer.text
    assert not (tmp_path / "clip" / CLIP_WEIGHTS).exists()


# --- what a machine without a network needs ------------------------------------------------------


def test_fetch_inputs_names_every_fetch_of_the_papers_experiment(tmp_path):
    nsd = World(tmp_path, overlays=())

    def fetches(*target):
        lines = nsd.dry_run(*target, "--quiet", "rules").text.splitlines()
        counts = [line.split() for line in lines if line.startswith("fetch_")]
        return {name: number for name, number in counts if name != "fetch_inputs"}

    assert len(fetches()) == 4
    assert fetches("fetch_inputs") == fetches()


# --- the teacher of the low-level decoder --------------------------------------------------------

SMALL_CONVNEXT = {
    "role": "teacher",
    "licence": "none",
    "loader": "vicregl_convnext",
    "files": {"small_fullckpt.pth": {}},
}


@pytest.mark.parametrize(
    ("teacher", "receipts"),
    [
        ("none", set()),
        ("autoencoder", {"stable-diffusion/vae/config.json", f"stable-diffusion/vae/{WEIGHTS}"}),
        ("convnext", {"small/small_fullckpt.pth"}),
    ],
)
def test_the_low_level_decoder_waits_for_its_teacher(tmp_path, teacher, receipts):
    (tmp_path / "small_fullckpt.pth").touch()
    small = SMALL_CONVNEXT | {"folder": str(tmp_path)}
    answer = World(tmp_path).dry_run(
        "results/tiny/decoders/vae_latent/subj01/pretrained.safetensors",
        changes={
            "models": {"low_level_teacher": "small", "zoo": {"small": small}},
            "decoder": {"low_level": {"teacher": teacher}},
        },
    )
    assert answer.succeeded, answer.text[-4000:]
    (reason,) = re.findall(r"pretrains the decoder for subj01 .*\nReason: (.*)", answer.text)
    assert set(re.findall(r"results/tiny/models/(\S+)\.json(?:,|$)", reason)) == receipts
    assert ("nsd_stimuli.hdf5" in reason) == bool(receipts)
