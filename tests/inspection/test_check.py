"""What is looked at on a machine, each by itself: what is missing is said, and what to do."""

import socket
import time

import pytest
import yaml

from neuraldiffuser import machine
from neuraldiffuser.__main__ import main
from neuraldiffuser.inspection import check
from neuraldiffuser.machine import Gpu, parse_gpus
from neuraldiffuser.provenance import REPOSITORY

GIB = 1 << 30
CARD = Gpu("GPU-1", "NVIDIA GeForce RTX 3090", 24 * GIB, 23 * GIB)
SMALL_CARD = Gpu("GPU-2", "small", 8 * GIB, 7 * GIB)


def change(tmp_path, **keys):
    overlay = tmp_path / "changes.yaml"
    overlay.write_text(yaml.safe_dump(keys))
    return overlay


def test_overlays_are_merged_as_snakemake_merges_them(tmp_path):
    overlay = change(tmp_path, subjects=["subj05"], decoder={"prior": {"depth": 2}})
    config = check.read_config([overlay])
    assert config.subjects == ("subj05",)
    assert (config.decoder.prior.depth, config.decoder.prior.head_size) == (2, 52)


def test_gpus_are_read_off_the_driver_s_answer():
    answer = "GPU-a, NVIDIA H200, 143771, 143000\nGPU-b, NVIDIA A100, 40960, 100\n"
    assert parse_gpus(answer)[0] == Gpu("GPU-a", "NVIDIA H200", 143771 << 20, 143000 << 20)
    assert len(parse_gpus(answer)) == 2 and parse_gpus("") == ()


def test_a_driver_that_does_not_answer_is_no_gpu(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    machine.list_gpus.cache_clear()
    try:
        assert machine.list_gpus() == ()
    finally:
        machine.list_gpus.cache_clear()


@pytest.mark.parametrize(
    ("device", "gpus", "is_missing", "words"),
    [
        ("auto", [SMALL_CARD, CARD], False, "RTX 3090, 25 of 26 GB free"),
        ("auto", [SMALL_CARD], False, "the paper recommends 24 GB"),
        ("auto", [], False, "networks run on the processor"),
        ("cpu", [CARD], False, "not used: runtime.device is cpu"),
        ("cuda", [], True, "set runtime.device to cpu"),
    ],
)
def test_the_gpu(tmp_path, device, gpus, is_missing, words):
    config = check.read_config([change(tmp_path, runtime={"device": device})])
    finding = check.look_at_device(config, gpus)
    assert finding.is_missing is is_missing and words in finding.words


def test_packages_that_are_not_as_pinned_are_named(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# Numbers\nnumpy==0.1\nsurely_not_installed==1.0  # of course\n")
    finding = check.look_at_packages(path)
    assert finding.is_missing
    assert "not 0.1, surely_not_installed is not installed; run: pip install" in finding.words


def test_the_pinned_packages_are_those_installed():
    assert not check.look_at_packages(REPOSITORY / "requirements.txt").is_missing


def test_terms_are_asked_for_where_nsd_is_fetched(paper, tiny, tmp_path):
    assert check.look_at_terms(paper).is_missing
    assert not check.look_at_terms(tiny).is_missing
    accepted = check.read_config([change(tmp_path, nsd={"terms_accepted": True})])
    assert check.look_at_terms(accepted).words == "accepted"


def test_weights_are_there_fetched_skipped_or_missing(paper, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {finding.what: finding for finding in check.look_at_weights(paper)}
    assert "4.27 GB will be fetched" in found["stable-diffusion-v1-4"].words
    assert not any(finding.is_missing for finding in found.values())
    found = {finding.what: finding for finding in check.look_at_weights(tiny)}
    assert found["clip"].is_missing and "models.zoo.clip" in found["clip"].words
    assert "skipped" in found["alexnet"].words and not found["alexnet"].is_missing
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    found = {finding.what: finding for finding in check.look_at_weights(tiny)}
    assert found["clip"].words == "2 files in resources/mini_models/clip"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("hf://CompVis/x@1", ("huggingface.co", 443)),
        ("s3://natural-scenes-dataset", ("natural-scenes-dataset.s3.us-east-2.amazonaws.com", 443)),
        ("http://images.cocodataset.org/a.zip", ("images.cocodataset.org", 80)),
        ("https://here:8443/a", ("here", 8443)),
    ],
)
def test_hosts_of_addresses(address, place, monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert check.find_host(address, "us-east-2") == place


def test_only_who_has_something_to_bring_is_asked(paper, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hosts = {host for host, _ in check.list_hosts(paper)}
    assert {"images.cocodataset.org", "huggingface.co", "github.com"} <= hosts
    assert check.look_at_network(tiny).words == "not needed: nothing is to be fetched"


def test_a_host_answers_or_does_not(paper, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_port = server.getsockname()[1]
        assert check.answers_at(("127.0.0.1", open_port))
        monkeypatch.setattr(check, "list_hosts", lambda _: {("127.0.0.1", open_port)})
        assert not check.look_at_network(paper).is_missing
    assert not check.answers_at(("127.0.0.1", open_port))
    finding = check.look_at_network(paper)
    assert finding.is_missing and "snakemake fetch_inputs" in finding.words


def test_room_that_all_folders_of_a_disk_need_together_counts(tmp_path):
    folder = tmp_path / "not" / "yet"
    enough = check.look_at_folder(folder, needed=10**9, needed_on_disk=10**9)
    assert not enough.is_missing and enough.words.startswith("about 1.0 GB are needed")
    short = check.look_at_folder(folder, needed=10**9, needed_on_disk=10**18)
    assert short.is_missing and "1000000000.0 GB are needed on this disk in all" in short.words


def test_what_is_made_already_needs_no_more_room(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "shard.h5").write_bytes(b"0" * 1000)
    (tmp_path / "b.csv").write_bytes(b"0" * 10)
    assert check.measure_folder(tmp_path) == 1010
    assert check.measure_folder(tmp_path / "nothing") == 0


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(check.os, "access", lambda *_: False)
    assert (
        "cannot be written to" in check.look_at_folder(tmp_path, needed=0, needed_on_disk=0).words
    )


def test_files_can_be_locked_here(tmp_path):
    assert check.can_lock(tmp_path)


def test_too_few_open_files_are_too_few():
    assert check.look_at_open_files(256).is_missing
    assert not check.look_at_open_files(1024).is_missing
    assert not check.look_at_open_files(check.resource.RLIM_INFINITY).is_missing


def test_the_command_says_in_a_moment_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "answers_at", lambda _: True)
    monkeypatch.setattr(check.machine, "list_gpus", lambda: ())
    words = ["check", "--configfile", str(change(tmp_path, nsd={"terms_accepted": False}))]
    started = time.process_time()
    assert main(words) == 1
    assert time.process_time() - started < 2
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("missing  NSD's terms") for line in lines)
    (tmp_path / "resources").symlink_to(REPOSITORY / "resources")
    mini = ["config/fidelity/corrected.yaml", "config/mini.yaml", "tests/tiny_world.yaml"]
    assert main(["check", "--configfile", *(str(REPOSITORY / path) for path in mini)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
