"""A switch is measured by Snakemake itself, on a copy: a toy workflow shows what reruns.

The toy writes what the real workflow measures; PixCorr falls by 0.1 where images are resized first.
"""

import os
import subprocess
import sys

import pytest
import yaml
from collect_fidelity import tell
from measure_switch import measure_switch
from workflow import CORRECTED, MINIATURE, REPOSITORY

from neuraldiffuser import storage
from neuraldiffuser.config.base import merge
from neuraldiffuser.config.evaluation import BootstrapSettings
from neuraldiffuser.errors import DataError

SCRIPTS = REPOSITORY / "workflow_scripts"
TOY = '''
from pathlib import Path

from neuraldiffuser.provenance import read_parameters, write_sidecars
from neuraldiffuser.snakemake_by_content import decide_by_content

decide_by_content()

def write(output, input, params, header, row):
    """Twenty images, no two alike, and how they were made."""
    lines = [row.format(id=k, value=0.5 + 0.01 * k - shift) for k in range(20)]
    with open(output[0], "w") as file:
        file.write("\\n".join([header, *lines, ""]))
    with open(config["runs"], "a") as file:
        file.write(output[0] + "\\n")
    write_sidecars(
        outputs=[Path(output[0])],
        inputs=[Path(path) for path in input],
        stage="toy",
        device="cpu",
        seconds=0.0,
        measured={},
        **read_parameters(params),
    )

if config["evaluation"]["ssim"] == "columns":
    raise ValueError("a toy has no columns")
shift = 0.1 if config["evaluation"]["first_resize"] else 0.0

rule images:
    input: "results/fidelity/decoding.txt"
    output: "results/fidelity/evaluation/guided/subj01/images.csv"
    params: settings=f'{{"shift": {shift}}}', code="as written"
    run:
        write(output, input, params, "id,repeat,metric,value", "{id},0,pixcorr,{value}")

rule decoding:
    output: "results/fidelity/decoding.txt"
    params: settings="{}", code="as written"
    run:
        write(output, input, params, "id", "{id}")

rule decoded:
    output: "results/fidelity/evaluation/decoding/subj01_images.csv"
    params: settings="{}", code="as written"
    run:
        write(output, input, params, "split,id,target,predictor,measure,value",
              "test,{id},clip_text,decoder,pearson_dimensions,0.5")

rule retrieved:
    output: "results/fidelity/evaluation/retrieval/subj01_images.csv"
    params: settings="{}", code="as written"
    run:
        write(output, input, params,
              "split,id,predictor,output,method,direction,pool,successes,trials",
              "test,{id},decoder,projection,vote,image,drawn,5,10")
'''
MEASURED = [
    f"results/fidelity/evaluation/{name}"
    for name in (
        "guided/subj01/images.csv",
        "decoding/subj01_images.csv",
        "retrieval/subj01_images.csv",
    )
]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A finished toy experiment in the working folder: its configuration."""
    repository = tmp_path / "repository"
    profile = repository / "profiles/default"
    profile.mkdir(parents=True)
    (repository / "Snakefile").write_text(TOY)
    (profile / "config.yaml").write_text("{}")
    (repository / "workflow_scripts").symlink_to(SCRIPTS)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    configuration = {}
    for path in (REPOSITORY / "config.yaml", CORRECTED, MINIATURE):
        configuration = merge(configuration, yaml.safe_load(path.read_text()))
    configuration |= {"experiment": "fidelity", "subjects": ["subj01"]}
    (folder / "all.yaml").write_text(yaml.safe_dump(configuration | told(tmp_path)))
    command = [sys.executable, "-m", "snakemake", *MEASURED, "--cores", "1"]
    command += ["--snakefile", repository / "Snakefile", "--configfile", "all.yaml"]
    library = {"PYTHONPATH": str(SCRIPTS)}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | library)
    (folder / "results/fidelity/fidelity").mkdir()
    return configuration


def told(folder):
    """Where the toy writes down what it ran."""
    return {"runs": str(folder / "runs.txt")}


def measure(key, configuration, folder, monkeypatch):
    """The effect of one key, and which files were made for it."""
    monkeypatch.setattr("measure_switch.write_overlays", add_place(folder))
    before = len((folder / "runs.txt").read_text().splitlines())
    path = folder / "work/results/fidelity/fidelity/effect.json"
    measure_switch(
        key=key,
        measured=MEASURED,
        path_to_effect=path,
        configuration=configuration,
        cores=1,
        repository=folder / "repository",
        bootstrap=BootstrapSettings(draws=500),
    )
    runs = (folder / "runs.txt").read_text().splitlines()[before:]
    return storage.read_json(path), runs


def add_place(folder):
    """Overlays as the script writes them, and the toy's own key."""
    from measure_switch import write_overlays

    return lambda world, *contents: write_overlays(world, *contents, told(folder))


def test_exactly_what_a_key_touches_reruns_in_a_copy(toy, tmp_path, monkeypatch):
    baseline = (tmp_path / "work" / MEASURED[0]).read_bytes()
    found, runs = measure("evaluation.first_resize", toy, tmp_path, monkeypatch)
    assert runs == [MEASURED[0]]
    assert found["value"] == 256 and found["instead_of"] is None
    assert tell(found)["effect"].startswith("guided PixCorr -0.100 [-0.100, -0.100]")
    assert (tmp_path / "work" / MEASURED[0]).read_bytes() == baseline
    left = sorted(path.name for path in (tmp_path / "work/results/fidelity/fidelity").iterdir())
    assert left == ["effect.json"]


def test_a_key_that_nothing_reads_reruns_nothing(toy, tmp_path, monkeypatch):
    found, runs = measure("evaluation.identification", toy, tmp_path, monkeypatch)
    assert runs == []
    assert tell(found)["effect"] == "none: the same values"


def test_an_experiment_that_does_not_run_is_no_effect(toy, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="does not run with the other value"):
        measure("evaluation.ssim", toy, tmp_path, monkeypatch)
