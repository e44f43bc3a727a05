import hashlib

from neuraldiffuser import storage
from neuraldiffuser.provenance import sidecar_path
from neuraldiffuser.reporting.provenance_table import (
    list_costs,
    list_software,
    list_stages,
    tell_total,
    trace_sidecars,
)


def sign(path, stage, inputs, device="cpu", torch="1.0", seconds=1.0, code=None):
    path.write_text(path.name)
    sidecar = {
        "stage": stage,
        "device": device,
        "seconds": seconds,
        "code": code or {f"{stage}.py": "0123456789ab"},
        "inputs": [[path, "as it was"] for path in inputs],
    }
    storage.write_json(sidecar_path(path), sidecar | {"software": {"torch": torch}})


def test_everything_behind_a_file_is_found_once(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    sign(a, "first", [str(tmp_path / "raw")])
    sign(b, "second", [str(a)], device="cuda", torch="2.0")
    sign(c, "third", [str(a), str(b)])
    found = trace_sidecars([c, b])
    assert [sidecar["stage"] for sidecar in found] == ["first", "second", "third"]
    stages = list_stages(found).set_index("stage")
    assert stages.loc["second", "device"] == "cuda"
    assert stages.loc["first", "files"] == 1
    assert list_software(found).set_index("package").loc["torch", "version"] == "1.0, 2.0"


def test_a_file_without_a_sidecar_has_nothing_behind_it(tmp_path):
    assert trace_sidecars([tmp_path / "none"]) == []
    assert list_stages([]).empty
    assert list_software([]).empty


def test_digests_are_cut_and_sentences_are_not(tmp_path):
    copied, made = tmp_path / "copied", tmp_path / "made"
    sign(copied, "fetch_file", [], code="a verified copy depends on no code")
    sign(made, "train", [str(copied)])
    codes = list_stages(trace_sidecars([made])).set_index("stage")["code"]
    assert codes["fetch_file"] == "a verified copy depends on no code"
    assert codes["train"] == hashlib.sha256(b'{"train.py": "0123456789ab"}').hexdigest()[:12]


def test_costs_add_up_and_a_job_with_two_outputs_counts_once(tmp_path):
    a, b, c, d = (tmp_path / name for name in "abcd")
    sign(a, "train", ["raw"], device="cuda", seconds=5400.0)
    sign(b, "train", ["raw"], device="cuda", seconds=5400.0)
    sign(c, "train", ["other"], device="cpu", seconds=3600.0)
    sign(d, "score", [str(a), str(b), str(c)], seconds=30.2)
    costs = list_costs(trace_sidecars([d, b]))
    assert costs.to_numpy().tolist() == [
        ["train", 2, "2.5 h", "cpu, cuda"],
        ["score", 1, "30 s", "cpu"],
        ["all", 3, "2.5 h", ""],
    ]
    assert tell_total(trace_sidecars([d, b])) == "2.5 h"
