"""Compute nodes need no network: no rule but fetch_* reaches for one."""

import os
import subprocess
import sys
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before torchvision

import full_size_models
import pytest
import torch
from workflow import REPOSITORY, World

FORBIDDEN = REPOSITORY / "tests/no_network"
TARGETS = ("vae_latent", "clip_text", "clip_image_02", "clip_image_12")


@pytest.fixture
def environment(tmp_path):
    """Without sockets, caches of Hugging Face, or a word about being offline."""
    library = REPOSITORY / "workflow_scripts"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return kept | {"PYTHONPATH": f"{FORBIDDEN}:{library}", "HF_HOME": str(tmp_path / "hub")}


def run(environment, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_ban_bans(environment):
    asks = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    assert "reached for a network" in run(environment, "-c", asks).stderr


def test_all_targets_of_the_miniature_are_extracted_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    answer = World(tmp_path, library=(FORBIDDEN,)).snakemake(
        *(f"results/tiny/targets/{target}.h5" for target in TARGETS)
    )
    assert answer.succeeded, answer.text[-4000:]
    assert not (tmp_path / "hub").exists()


def test_every_network_is_loaded_without_a_network(environment, tmp_path):
    write_random_weights(tmp_path)
    shipped = REPOSITORY / "resources/mini_models"
    answer = run(environment, REPOSITORY / "tests/offline_networks.py", shipped, tmp_path)
    assert answer.returncode == 0, answer.stderr[-4000:]
    assert answer.stdout.startswith("loaded alexnet ")


def write_random_weights(folder: Path) -> None:
    """A state dict for each network that is not shipped."""
    from torchvision import models

    full_size_models.write_inception_fid(folder / "inception_fid.pth")
    build = {
        "alexnet": models.alexnet,
        "lpips": models.alexnet,
        "inception_v3": lambda: models.inception_v3(init_weights=False),
        "efficientnet_b1": models.efficientnet_b1,
        "swav_resnet50": models.resnet50,
    }
    for name, network in build.items():
        weights = network().state_dict()
        if name == "swav_resnet50":
            weights = {key: value for key, value in weights.items() if not key.startswith("fc.")}
        torch.save(weights, folder / f"{name}.pth")
