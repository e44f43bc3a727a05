"""Nothing is lost: a world that is disturbed ends as one that was left alone.

That one is killed at random moments is test_kills.py's.
"""

import os
import random
import subprocess
from pathlib import Path

import pytest
from smallest_world import OVERLAYS, RESULTS, TARGETS, everything
from workflow import World

from neuraldiffuser import provenance

pytestmark = pytest.mark.system
VOXELS = f"{RESULTS}/voxels/subj01.h5"
DECODER = f"{RESULTS}/decoders/clip_image_12/subj01/finetuned.safetensors"
DATES = (631_152_000, 2_208_988_800)  # 1990 to 2040


def test_of_two_runs_that_start_at_once_one_is_refused_and_nothing_is_mixed(undisturbed, tmp_path):
    world = World(tmp_path, overlays=OVERLAYS)
    runs = [world.start(VOXELS, output=subprocess.PIPE) for _ in range(2)]
    told = {run.communicate()[0]: run.returncode for run in runs}
    assert sorted(told.values()) == [0, 1]
    refused = next(text for text, code in told.items() if code)
    assert "Another run writes results/" in refused, refused[-4000:]
    assert "Traceback" not in refused
    assert everything(world).items() <= undisturbed.everything.items()


@pytest.fixture
def mount():
    """Mounts a disk in memory over a folder, or changes its options; only root may."""
    mounted = []

    def run(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = f"remount,{options}" if folder in mounted else options
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("no disk can be mounted here; run as root, where mount is permitted")
        mounted.append(folder)

    yield run
    for folder in set(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_read_only_folder_is_refused_before_anything_starts(tmp_path, mount):
    world = World(tmp_path, overlays=OVERLAYS)
    mount(tmp_path / RESULTS, "ro")
    answer = world.snakemake(*TARGETS)
    assert not answer.succeeded
    assert (
        f"{RESULTS} cannot be written (Read-only file system); mend that, or name another folder "
        "under paths."
    ) in answer.text
    assert "Traceback" not in answer.text
    assert not (tmp_path / "results/smallest_bucket").exists()


def test_a_full_disk_is_told_in_one_sentence_and_made_good_by_room(undisturbed, tmp_path, mount):
    world = World(tmp_path, overlays=OVERLAYS)
    for megabytes in (1, 3, 5, 7):
        mount(tmp_path / "results", f"size={megabytes}m")
        answer = world.snakemake(DECODER)
        assert not answer.succeeded
        assert "make room there" in answer.text, answer.text[-8000:]
        assert "Traceback" not in answer.text, answer.text[-8000:]
        found = everything(world)
        whole = found.keys() & undisturbed.everything.keys()
        assert not [name for name in whole if found[name] != undisturbed.everything[name]]
    mount(tmp_path / "results", "size=100m")
    answer = world.snakemake(DECODER)
    assert answer.succeeded, answer.text[-8000:]
    assert everything(world).items() <= undisturbed.everything.items()


def list_files(world: World) -> list[Path]:
    return sorted(path for path in (world.folder / "results").rglob("*") if path.is_file())


def spoil(path: Path) -> None:
    """Changes one byte in the middle of a file and leaves it its date."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_clock_that_was_set_back_or_forth_reruns_nothing_and_hides_nothing(undisturbed, tmp_path):
    world = undisturbed.copy_to(tmp_path / "world")
    dates = random.Random(0)
    for path in list_files(world):
        os.utime(path, (0, dates.uniform(*DATES)))
    assert "Nothing to be done" in world.dry_run(*TARGETS).text
    spoil(world.folder / RESULTS / "evaluation/summary.csv")
    rerun = world.dry_run(*TARGETS).rules_to_run
    assert rerun >= {"summarise_evaluation", "derive_findings", "make_table"}
    assert "reconstruct_images" not in rerun


def test_a_byte_that_changed_afterwards_is_named_and_made_good(undisturbed, tmp_path):
    """In one file of every kind that the workflow makes."""
    assert undisturbed.world.ask("verify").succeeded
    world = undisturbed.copy_to(tmp_path / "world")
    described = [path for path in list_files(world) if provenance.sidecar_path(path).is_file()]
    spoilt = list({path.suffix: path for path in described}.values())
    assert len(spoilt) >= 8, spoilt
    for path in spoilt:
        spoil(path)
    answer = world.ask("verify")
    assert not answer.succeeded
    assert f"{len(spoilt)} not as it was made:" in answer.text
    for path in spoilt:
        assert f"  {path.relative_to(world.folder)}\n" in answer.text
        path.unlink()
    assert world.snakemake(*TARGETS).succeeded
    assert world.ask("verify").succeeded
    assert everything(world).items() <= undisturbed.everything.items()
