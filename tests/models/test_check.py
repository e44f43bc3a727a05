"""A file that is not what it should be is refused in one sentence; what is right is measured."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from neuraldiffuser.config.models import PinnedFile
from neuraldiffuser.errors import DataError
from neuraldiffuser.models import check, pins

KEY = "models.zoo.some.files.weights"
ACTION = "run by a pickle"


class Act:
    """What a pickle may do when it is loaded: here, it leaves a folder behind."""

    def __reduce__(self):
        return os.mkdir, (ACTION,)


def write_safetensors(path):
    save_file({"weight": torch.arange(12.0)}, path)


def write_state_dict(path):
    torch.save({"weight": torch.arange(12.0)}, path)


def write_text(path):
    path.write_text('{"size": 3}')


GOOD = {
    "model.safetensors": write_safetensors,
    "model.pth": write_state_dict,
    "model.pt": write_state_dict,
    "model.bin": write_state_dict,
    "model.pth.tar": write_state_dict,
    "config.json": write_text,
    "merges.txt": write_text,
}


def examine(path, loader="alexnet", **pin):
    return check.check_file(path, PinnedFile(**pin), loader=loader, key=KEY)


def refusal(path, **arguments):
    with pytest.raises(DataError) as error:
        examine(path, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", GOOD)
def test_what_a_file_is_is_measured(tmp_path, name):
    path = tmp_path / name
    GOOD[name](path)
    content = path.read_bytes()
    expected = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert examine(path) == expected
    assert examine(path, **expected) == expected


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "absent.pth"
    assert refusal(path) == f"{path} is missing; put it there, or let it be fetched."


@pytest.mark.parametrize(
    "pin", [{"size": 4}, {"sha256": "0" * 64}, {"size": 4, "sha256": "a" * 64}]
)
def test_another_file_than_the_pinned_one_is_named_with_both_digests(tmp_path, pin):
    path = tmp_path / "config.json"
    path.write_text("[]")
    sha256 = hashlib.sha256(b"[]").hexdigest()
    expected = ", ".join(f"{key}: {value}" for key, value in pin.items())
    assert refusal(path, **pin) == (
        f"{path} is {{size: 2, sha256: {sha256}}}, but {KEY} says {{{expected}}}; put the right "
        "one there (or delete it if it was fetched), or, if this is the file you want, write "
        "there what it is."
    )


@pytest.mark.parametrize("name", ["model.pkl", "model.ckpt", "model.npz", "model.py", "model"])
def test_formats_that_could_run_code_are_refused_unread(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"anything")
    assert refusal(path) == (
        f"{path} is of no format that is safe to load; use one of .safetensors, .json, .txt, "
        ".pth, .pt, .bin, .tar."
    )


@pytest.mark.parametrize("name", ["model.pth", "model.bin", "model.pth.tar"])
def test_a_pickle_that_acts_is_refused_before_it_does(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Act()}, name)
    assert "holds more than data (UnpicklingError)" in refusal(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Act()))
    assert "holds more than data (UnpicklingError)" in refusal(tmp_path / name)
    assert not (tmp_path / ACTION).exists()


def test_a_pickle_under_the_name_of_a_safe_format_is_refused(tmp_path):
    for name in ("model.safetensors", "config.json", "merges.txt"):
        path = tmp_path / name
        torch.save({"weight": torch.zeros(2), "other": np.zeros(3)}, path)
        assert "is truncated, not what its name says, or holds more than data" in refusal(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "config.json"])
def test_a_truncated_file_is_refused(tmp_path, name):
    path = tmp_path / name
    GOOD[name](path)
    path.write_bytes(path.read_bytes()[:-5])
    assert f"{path} is truncated, " in refusal(path)


def test_only_the_restricted_unpickler_ever_opens_the_released_gnet(tmp_path):
    path = tmp_path / "gnet_multisubject.pt"
    path.write_bytes(b"a pickle that nothing here opens")
    assert examine(path, loader="gnet")["size"] == 32
    assert "is truncated" in refusal(path, loader="alexnet")


def test_torch_must_have_stored_tensors_by_name(tmp_path):
    path = tmp_path / "model.pth.tar"
    torch.save([torch.arange(12.0)], path)
    assert "not what its name says, or holds more than data" in refusal(path)


# --- pins that are written down later ------------------------------------------------------------


@pytest.fixture
def checked(tmp_path):
    """A file, its receipt, and how it looked then."""
    path, receipt = tmp_path / "config.json", tmp_path / "config.json.json"
    path.write_text("[]")
    receipt.write_text(f'{{"size": 2, "sha256": "{hashlib.sha256(b"[]").hexdigest()}"}}')
    os.utime(path, (1000, 1000))
    receipt.with_suffix(".seen").write_text(json.dumps({"look": pins.look(path)}))
    return path, receipt


def test_a_receipt_speaks_for_a_file_that_has_not_changed(checked):
    path, receipt = checked
    pins.require_known(path, receipt, PinnedFile(size=2), key=KEY)
    with pytest.raises(DataError, match=f"{path} is {{size: 2, .* but {KEY} says {{size: 3}}"):
        pins.require_known(path, receipt, PinnedFile(size=3), key=KEY)


@pytest.mark.parametrize("date", [998, 1002])
def test_a_receipt_speaks_for_a_file_of_another_date_too(checked, date):
    path, receipt = checked
    os.utime(path, (date, date))
    with pytest.raises(DataError, match="is {size: 2, "):
        pins.require_known(path, receipt, PinnedFile(size=3), key=KEY)


@pytest.mark.parametrize("change", ["other", "longer", "no file", "no receipt"])
def test_otherwise_the_file_is_checked_again(checked, change):
    path, receipt = checked
    if change in ("other", "longer"):
        path.write_text("{}" if change == "other" else "[] ")
        os.utime(path, (998, 998))
    else:
        (path if change == "no file" else receipt).unlink()
    pins.require_known(path, receipt, PinnedFile(size=3), key=KEY)
