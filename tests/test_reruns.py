"""What makes jobs run again and what does not, on a finished miniature of stubs.

Its files are small, its sidecars those of a real run; that real runs leave such sidecars behind is
for test_end_to_end.py to show. One world serves all tests of this file, so they share a worker.
"""

import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import yaml
from finished_world import finish
from rerun_table import ONLY_ONE_VALUE, change, find_row, list_leaves
from workflow import CORRECTED, MINIATURE, REPOSITORY, TINY

from neuraldiffuser import __main__ as command
from neuraldiffuser import identity, provenance
from neuraldiffuser.config.base import merge
from neuraldiffuser.inspection.explain import find_causes
from neuraldiffuser.inspection.jobs import Job, read_graph

OVERLAYS = (CORRECTED, MINIATURE, TINY)
SAMPLED = 20
MODELS = {"paths": {"models": str(REPOSITORY / "resources/mini_models")}}
DRAWS = {"evaluation": {"bootstrap": {"draws": 300}}}
VOXELS = "results/tiny/voxels/subj01.h5"
FINETUNING = {"pretrain_decoder", "finetune_decoder"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished miniature, all of which can also be found under other names."""
    folder = tmp_path_factory.mktemp("world")
    finish(OVERLAYS, folder=folder, **MODELS)
    (folder / "linked_results").symlink_to(folder / "results")
    (folder / "linked_data").symlink_to(folder / "results/tiny_data")
    (folder / "results/linked").symlink_to(folder / "results/tiny")
    (folder / "linked_models").symlink_to(MODELS["paths"]["models"])
    return folder


@pytest.fixture
def world(finished, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(finished / "results", tmp_path / "results", symlinks=True).parent


@pytest.fixture(scope="module")
def leaves(finished):
    """Every leaf of the miniature's configuration, by its names, that can have another value."""
    config = read_graph(OVERLAYS, folder=finished, changes=MODELS).config
    return {
        names: value
        for names, value in list_leaves(config.model_dump(mode="json"))
        if find_row(".".join(names)).value is not ONLY_ONE_VALUE
    }


def explain(folder: Path, changes: Mapping | None = None) -> tuple[list[Job], dict]:
    """All jobs, and the own causes of those that would run."""
    graph = read_graph(OVERLAYS, folder=folder, changes=merge(MODELS, changes or {}))
    jobs = [job for job in graph.jobs if job.making]
    return jobs, find_causes(jobs)


def list_first(folder: Path, changes: Mapping | None = None) -> dict[str, set[tuple[str, str]]]:
    """By rule, kinds and names of the changes for which jobs would run first."""
    jobs, causes = explain(folder, changes)
    found: dict[str, set[tuple[str, str]]] = {}
    for job in jobs:
        if causes.get(job.number):
            told = {(each.kind, each.name) for each in causes[job.number]}
            found[job.rule] = found.get(job.rule, set()) | told
    return found


def follow(first: Iterable[int], jobs: Iterable[Job]) -> set[int]:
    """Jobs that read, directly or not, what some first ones make; those themselves."""
    running = set(first)
    remade = {path for job in jobs if job.number in running for path in job.outputs}
    for job in jobs:  # upstream first
        if remade.intersection(job.inputs):
            running.add(job.number)
            remade.update(job.outputs)
    return running


# --- the configuration ---------------------------------------------------------------------------


def check_leaf(folder, names, value):
    """Fails unless exactly the rules of the leaf's row, and what follows them, would run."""
    row = find_row(".".join(names))
    changes = merge(row.beside, nest(names, change(value, row)))
    jobs, causes = explain(folder, changes)
    first = {number for number, own in causes.items() if own}
    assert {job.rule for job in jobs if job.number in first} == set(row.rules.split()), names
    assert set(causes) == follow(first, jobs), names


def nest(names, value):
    """Sections around a value; unlike a dotted key's, names may hold dots."""
    for name in reversed(names):
        value = {name: value}
    return value


def test_some_leaves_rerun_exactly_what_reads_them_and_what_follows(finished, leaves):
    """All of them, in make test-reruns."""
    for names in random.Random(0).sample(sorted(leaves), SAMPLED):
        check_leaf(finished, names, leaves[names])
    print(f"{SAMPLED} of {len(leaves)} leaves were changed, each alone.")


def find_fault(folder, leaf):
    """What is wrong with the row of a leaf; nothing if nothing is."""
    try:
        check_leaf(folder, *leaf)
    except AssertionError as error:
        return str(error)
    return ""


@pytest.mark.system
def test_every_leaf_reruns_exactly_what_reads_it_and_what_follows(finished, leaves, capsys):
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        faults = list(pool.map(partial(find_fault, finished), leaves.items(), chunksize=8))
    with capsys.disabled():
        print(f"\n{len(leaves)} leaves were changed, each alone.")
    assert not any(faults), "\n\n".join(filter(None, faults))


def test_a_change_is_told_by_the_key_that_was_changed(finished):
    first = list_first(finished, {"decoder": {"finetuning": {"epochs": 3}}})
    assert first["finetune_decoder"] == {("setting", "decoder.finetuning.epochs")}
    assert first["write_report"] == {("setting", "decoder.finetuning.epochs")}


def list_rerun(folder: Path, changes: Mapping, *targets: str) -> list[Job]:
    """Jobs that would run for some files."""
    changed = merge(MODELS, changes)
    graph = read_graph(OVERLAYS, folder=folder, targets=targets, changes=changed)
    return [job for job in graph.jobs if job.runs]


@pytest.mark.parametrize(
    ("changes", "variants"),
    [
        ({"guidance": {"color": {"grid": 4}}}, {"clip_and_color"}),
        ({"guidance": {"encoder": {"share": 0.25}}}, {"brain_encoding"}),
        ({"variants": {"clip_and_color": {"strength": 0.5}}}, {"clip_and_color"}),
        ({"variants": {"unguided": {"strength": 0.5, "ratio": 2}}}, set()),
    ],
    ids=str,
)
def test_only_variants_that_read_a_key_are_made_again(finished, changes, variants):
    names = ("guided", "unguided", "brain_encoding", "clip_and_color")
    shards = [f"results/tiny/reconstructions/{name}/subj01/shard-0.h5" for name in names]
    rerun = list_rerun(finished, {"reconstruction": changes}, *shards)
    for rule in ("calibrate_guidance", "reconstruct_images"):
        assert {job.wildcards["variant"] for job in rerun if job.rule == rule} == variants


@pytest.mark.parametrize(
    ("changes", "latent", "text"),
    [
        ({"low_level": {"teacher_weight": 0.2}}, FINETUNING, set()),
        ({"prior": {"timesteps": 50}}, set(), FINETUNING | {"train_from_scratch"}),
        ({"objective": {"prior_weight": 20}}, set(), FINETUNING | {"train_from_scratch"}),
        (
            {"finetuning": {"epochs": 2}},
            {"finetune_decoder"},
            {"finetune_decoder", "train_from_scratch"},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_only_decoders_whose_pipeline_reads_a_key_are_trained_again(
    finished, changes, latent, text
):
    decoder = "results/tiny/decoders/{}/subj01/finetuned.safetensors"
    scratch = "results/tiny/controls/scratch/clip_text/subj01.safetensors"
    for targets, expected in (
        ([decoder.format("vae_latent")], latent),
        ([decoder.format("clip_text"), scratch], text),
    ):
        rerun = list_rerun(finished, {"decoder": changes}, *targets)
        assert {job.rule for job in rerun} == expected


def test_aligning_one_target_decodes_no_other(finished):
    changes = {"decoder": {"prediction": {"aligned_targets": ["vae_latent", "clip_text"]}}}
    rerun = list_rerun(finished, changes)
    for rule in ("predict_embeddings", "decode_by_ridge"):
        assert {job.wildcards["target"] for job in rerun if job.rule == rule} == {"clip_text"}


def test_reordered_keys_rerun_nothing(finished, tmp_path):
    turned = []
    for path in OVERLAYS:
        turned.append(tmp_path / path.name)
        turned[-1].write_text(yaml.safe_dump(turn(yaml.safe_load(path.read_text()))))
    graph = read_graph(turned, folder=finished, changes=turn(MODELS | {"seed": 42}))
    assert not [job for job in graph.jobs if job.runs]


def turn(values):
    """The same with the keys of all sections in the other order."""
    if not isinstance(values, dict):
        return values
    return {name: turn(value) for name, value in sorted(values.items(), reverse=True)}


def test_there_and_back_again_reruns_nothing(finished):
    assert explain(finished, DRAWS)[1]
    assert not explain(finished)[1]


# --- files ---------------------------------------------------------------------------------------


def test_touched_files_rerun_nothing(world):
    for number, path in enumerate(sorted(world.rglob("*"))):
        if path.is_file():
            os.utime(path, (1_000_000_000 - number, 1_000_000_000 - number))
    assert not explain(world)[1]


def test_a_fresh_clone_beside_the_results_reruns_nothing(world, tmp_path):
    """Every file of the clone is new, it lies elsewhere, and Snakemake has no records there."""
    clone = tmp_path / "clone"
    tracked = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, clone / name)
    shutil.move(world / "results", clone / "results")
    overlays = [str(clone / path.relative_to(REPOSITORY)) for path in OVERLAYS]
    answer = subprocess.run(
        [sys.executable, "-m", "neuraldiffuser", "explain", "--configfile", *overlays],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone / "workflow_scripts")},
        capture_output=True,
        text=True,
    )
    assert re.fullmatch(r"Nothing would run: (\d+) of \1 jobs are up to date\.\n", answer.stdout)


def test_deleted_intermediates_rerun_nothing_while_their_sidecars_tell_what_they_were(world):
    (world / VOXELS).unlink()
    assert not explain(world)[1]
    assert "prepare_voxels" in list_first(world, {"voxels": {"invalid_voxels": "dropped"}})
    provenance.sidecar_path(world / VOXELS).unlink()
    assert "prepare_voxels" in list_first(world)


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"sha256": "of an older version"}', None])
def test_a_file_whose_sidecar_tells_nothing_is_made_again(world, spoilt):
    sidecar = provenance.sidecar_path(world / VOXELS)
    sidecar.unlink() if spoilt is None else sidecar.write_bytes(spoilt)
    assert list_first(world)["prepare_voxels"] == {("sidecar", VOXELS)}


def test_an_altered_result_is_made_again(world):
    path = world / VOXELS
    path.write_bytes(path.read_bytes()[:-1])
    assert list_first(world)["prepare_voxels"] == {("output", VOXELS)}


def test_swapped_and_altered_inputs_rerun_what_reads_them(world):
    """Fetched files lie outside of the results, and may be replaced by hand."""
    one, two = (
        world / f"results/tiny_data/nsddata/ppdata/subj0{number}/behav/responses.tsv"
        for number in (1, 2)
    )
    for path in (one, two):
        provenance.sidecar_path(path).unlink()
    assert not explain(world)[1]
    before = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(before)
    kinds = {kind for changes in list_first(world).values() for kind, _ in changes}
    assert kinds == {"input"}
    assert set(list_first(world)) == {
        "prepare_voxels",
        "extract_vae_latent",
        "extract_clip_text",
        "extract_clip_image",
    }


# --- code ----------------------------------------------------------------------------------------

# Modules of the library and the rules that use them, directly or not.
TEXT = "extract_vae_latent extract_clip_text extract_clip_image"
SAMPLING = "calibrate_guidance reconstruct_images"
BRAIN = "evaluate_encoder evaluate_brain evaluate_brain_of_stimuli"
PAGES = "make_table make_figure make_gallery write_gallery write_report"
USERS = {
    "features/clip_text.py": f"{TEXT} {SAMPLING} select_repeats",
    "decoders/ridge.py": "decode_by_ridge",
    "encoding/gnet.py": f"train_encoder {SAMPLING} {BRAIN}",
    "diffusion/sampler.py": SAMPLING,
    "diffusion/guidance/color.py": SAMPLING,  # of what colours guide
    "mini/scenes.py": "generate_mini_world",
    "reporting/gallery.py": "make_gallery",
    "reporting/gallery_page.py": "write_gallery",
    "reporting/thumbnails.py": "make_thumbnails make_stimulus_thumbnails",
    "words.py": f"draw_regions compare_brain derive_findings {PAGES}",
}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A copy of the library, whose modules count in place of the repository's."""
    scripts = tmp_path / "workflow_scripts"
    shutil.copytree(REPOSITORY / "workflow_scripts", scripts)
    monkeypatch.setattr(identity, "SCRIPTS", scripts)
    forget()
    yield scripts / "neuraldiffuser"
    forget()


def forget():
    """Has modules be read anew."""
    for function in vars(identity).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def test_comments_docstrings_and_layout_rerun_nothing(finished, library):
    for path in library.rglob("*.py"):
        text = path.read_text()
        path.write_text(
            f'"""Other words."""\n# A comment.\n\n{cut_docstring(text)}\n\n# The end.\n'
        )
    assert not explain(finished)[1]


def cut_docstring(text: str) -> str:
    """A module without its docstring."""
    return re.sub(r'\A"""[^"]*(?:"{1,2}[^"]+)*"""', "", text)


@pytest.mark.parametrize("module", USERS)
def test_an_edit_in_a_module_reruns_exactly_its_users(finished, library, module):
    path = library / module
    path.write_text(f"{path.read_text()}\nEDITED = True\n")
    name = f"neuraldiffuser/{module}"
    assert list_first(finished) == {rule: {("code", name)} for rule in USERS[module].split()}


# --- what people read ----------------------------------------------------------------------------


def run(folder, monkeypatch, capsys, *words, changes=None):
    """Exit status and text of a command in a folder."""
    monkeypatch.chdir(folder)
    (folder / "changes.yaml").write_text(yaml.safe_dump(merge(MODELS, changes or {})))
    overlays = [*map(str, OVERLAYS), "changes.yaml"]
    status = command.main([*words, "--configfile", *overlays])
    return status, capsys.readouterr().out


def test_explain_tells_causes_counts_and_followers(world, monkeypatch, capsys):
    status, text = run(world, monkeypatch, capsys, "explain", changes=DRAWS)
    assert status == 0
    assert "because the configuration changed" in text
    assert "evaluation.bootstrap.draws: 300, was 200" in text
    assert "1 summarise_evaluation" in text
    assert not re.search(r" \d$", text, re.MULTILINE), "a line parts a number from its rule"
    assert re.search(r"^  \d+ because of those$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 100


def test_explain_tells_of_every_job_when_asked(world, monkeypatch, capsys):
    _, text = run(world, monkeypatch, capsys, "explain", "--jobs", changes=DRAWS)
    assert "\nevaluate_encoder subj01: evaluation.bootstrap.draws: 300, was 200\n" in text


def test_explain_says_when_nothing_would_run(world, monkeypatch, capsys):
    assert run(world, monkeypatch, capsys, "explain")[1].startswith("Nothing would run: ")


def test_verify_finds_what_a_glance_overlooks(world, monkeypatch, capsys):
    status, text = run(world, monkeypatch, capsys, "verify")
    assert status == 0 and text.startswith("All is well: "), text
    sidecar = provenance.sidecar_path(world / VOXELS)
    told = sidecar.read_text()
    sidecar.write_text(re.sub(r'"sha256": "\w+"', f'"sha256": "{"0" * 64}"', told))
    status, text = run(world, monkeypatch, capsys, "verify")
    assert status == 1
    assert f"1 not as it was made:\n  {VOXELS}\n" in text


def test_verify_mentions_what_nobody_makes_and_what_is_gone(world, monkeypatch, capsys):
    (world / VOXELS).unlink()
    other = world / "results/tiny/evaluation/other.csv"
    shutil.copy(world / "results/tiny/findings.json", other)
    shutil.copy(
        provenance.sidecar_path(world / "results/tiny/findings.json"),
        provenance.sidecar_path(other),
    )
    status, text = run(world, monkeypatch, capsys, "verify")
    assert status == 0
    assert f"1 gone, though its sidecar still tells what it was:\n  {VOXELS}\n" in text
    assert "1 made by no job of this configuration:\n  results/tiny/evaluation/other.csv" in text


def test_verify_names_a_result_without_a_sidecar(world, monkeypatch, capsys):
    provenance.sidecar_path(world / VOXELS).unlink()
    status, text = run(world, monkeypatch, capsys, "verify")
    assert status == 1 and f"1 without a sidecar:\n  {VOXELS}\n" in text
