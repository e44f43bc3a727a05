import builtins
import copy
import io
import os
import pickle
import pickletools
import zipfile
from collections import Counter

import numpy as np
import public_gnet
import pytest
import torch
from convert_gnet import convert_gnet
from PIL import Image
from workflow import CORRECTED, MINIATURE, REPOSITORY, TINY, World

from neuraldiffuser import storage
from neuraldiffuser.encoding import released_gnet
from neuraldiffuser.encoding.gnet import Gnet
from neuraldiffuser.encoding.prediction import predict
from neuraldiffuser.errors import DataError
from neuraldiffuser.inspection.jobs import read_graph
from neuraldiffuser.nsd import published_counts

FORMATS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


@pytest.fixture(scope="module")
def checkpoint():
    return public_gnet.make_checkpoint()


@pytest.fixture(scope="module")
def released(checkpoint):
    return released_gnet.convert(checkpoint, source="gnet.pt")


def build(released, subject):
    encoder = Gnet(released_gnet.NETWORK, voxels=released.voxels[subject])
    encoder.load_state_dict(released_gnet.state_of_subject(released.tensors, subject))
    return encoder.eval()


# --- what the network answers ---


@torch.no_grad()
@pytest.mark.parametrize("number", public_gnet.VOXELS)
def test_our_network_answers_as_the_public_forward_pass(checkpoint, released, number):
    images = torch.rand(2, 3, 227, 227, generator=torch.Generator().manual_seed(number))
    expected = public_gnet.answer(checkpoint, number, images)
    assert expected.std(axis=1).min() > 0.5  # voxels differ, so their order shows
    answered = build(released, f"subj{number:02d}")(images).numpy()
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-5)


def test_stimuli_are_seen_as_the_public_readers_see_them(checkpoint, released):
    images = np.random.default_rng(0).integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)
    seen = [
        np.array(Image.fromarray(image).resize((227, 227), resample=Image.Resampling.LANCZOS))
        for image in images
    ]
    seen = np.moveaxis(np.array(seen).astype(np.float32) / 255.0, 3, 1)
    expected = public_gnet.answer(checkpoint, 1, torch.from_numpy(seen))
    answered = predict(build(released, "subj01"), images)
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_tensor_decides_the_answer(released):
    """So two tensors of one shape cannot have changed places in the proof above."""
    encoder = build(released, "subj01")
    draw = torch.Generator().manual_seed(0)
    maps = tuple(torch.randn(1, 256, side, side, generator=draw) for side in (25, 13))
    for network, seen in [
        (torch.nn.Sequential(encoder.prefilter, encoder.trunk), torch.rand(1, 3, 67, 67)),
        (encoder.readout, maps),
    ]:
        answer = flatten(network(seen))
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):  # how many were seen decides nothing
                continue
            kept = tensor.clone()
            tensor.copy_(kept.roll(1, dims=0))
            assert (flatten(network(seen)) - answer).abs().max() > 1e-3, name
            tensor.copy_(kept)


def flatten(answer):
    return torch.cat([part.flatten() for part in answer])


def test_a_subject_that_was_not_released_is_refused(released):
    with pytest.raises(DataError, match="The released GNet has no subj03"):
        released_gnet.state_of_subject(released.tensors, "subj03")


# --- what is stored ---


@FORMATS
def test_conversion_keeps_every_bit(checkpoint, tmp_path, legacy):
    path = public_gnet.save(checkpoint, tmp_path / "gnet.pt", legacy=legacy)
    convert_gnet(path_to_checkpoint=path, path_to_encoder=tmp_path / "gnet.safetensors")
    tensors, metadata = storage.read_tensors(tmp_path / "gnet.safetensors")
    readouts = checkpoint["best_params"]["fwrfs"]
    public = [*checkpoint["best_params"]["enc"].values()]
    public += [tensor for state in readouts.values() for tensor in state.values()]
    names = ("val_cc", "voxel_mask", "voxel_index", "voxel_roi")
    public += [array for name in names for array in checkpoint[name].values()]
    assert count_contents(tensors.values()) == count_contents(public)
    assert torch.equal(tensors["subj02.readout.weight"], readouts[2]["w"])
    assert np.array_equal(tensors["subj02.voxel_mask"], checkpoint["voxel_mask"][2])
    assert tensors["subj01.voxel_roi"].dtype == torch.float64
    assert metadata["subjects"] == {
        "subj01": {"voxels": 5, "volume_shape": [4, 3, 5]},
        "subj02": {"voxels": 4, "volume_shape": [3, 4, 3]},
    }
    assert metadata["network"] == released_gnet.NETWORK.model_dump(mode="json")
    assert len(metadata["source_sha256"]) == 64


def count_contents(values):
    """How often each dtype and content occurs, whatever it is called."""
    arrays = [np.asarray(value) for value in values]
    return Counter((array.dtype.str, array.tobytes()) for array in arrays)


@FORMATS
def test_the_miniature_is_written_as_the_released_file_was(checkpoint, tmp_path, legacy):
    content = public_gnet.save(checkpoint, tmp_path / "gnet.pt", legacy=legacy).read_bytes()
    assert content.startswith(b"PK") != legacy
    for text in (b"numpy.core.multiarray\n_reconstruct", b"numpy.core.multiarray\nscalar"):
        assert text in content
    assert b"cuda:0" in content and b"numpy._core" not in content


def test_the_miniature_needs_what_the_released_file_needs(checkpoint, tmp_path):
    path = public_gnet.save(checkpoint, tmp_path / "gnet.pt", legacy=False)
    with zipfile.ZipFile(path) as archive:
        operations = pickletools.genops(archive.read("gnet/data.pkl"))
    needed = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    # The imports that Hugging Face's scan shows for reesekneeland/Second-Sight/gnet_multisubject.
    assert needed == {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch LongStorage",
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        "numpy ndarray",
        "numpy dtype",
        "_codecs encode",
    }


def test_what_numpy_two_writes_is_read_too(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "gnet.pt")
    assert b"numpy._core" in (tmp_path / "gnet.pt").read_bytes()
    released_gnet.convert(released_gnet.read_checkpoint(tmp_path / "gnet.pt"), source="gnet.pt")


# --- what is refused unread ---


class Exploit:
    """Unpickling it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def make_exploit(kind, marker):
    code = f"open({str(marker)!r}, 'w').close()"
    return {
        "os.system": Exploit(os.system, f"touch {marker}"),
        "eval": Exploit(builtins.eval, f"__import__('pathlib').Path({str(marker)!r}).touch()"),
        "exec": Exploit(builtins.exec, code),
        "getattr": Exploit(builtins.getattr, Exploit(os.system, f"touch {marker}"), "x"),
        "numpy": Exploit(np.testing.suppress_warnings, "ignore"),
    }[kind]


NAMES = {
    "os.system": "posix.system",
    "eval": "eval",
    "exec": "exec",
    "getattr": "getattr",
    "numpy": "numpy.testing",
}
PLACES = {
    "alone": lambda exploit: exploit,
    "value": lambda exploit: {"best_params": {"enc": exploit}},
    "key": lambda exploit: {exploit: 1},
    "nested": lambda exploit: {"best_params": {"enc": {"mu": [{"deep": (0, exploit)}]}}},
}


@FORMATS
@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("place", PLACES)
def test_what_would_run_code_is_refused_by_name(tmp_path, legacy, kind, place):
    marker = tmp_path / "executed"
    content = PLACES[place](make_exploit(kind, marker))
    path = public_gnet.save(content, tmp_path / "gnet.pt", legacy=legacy)
    refuse(path, f"asks for {NAMES[kind]}.*was not executed; delete it and fetch it again")
    assert not marker.exists()


@FORMATS
def test_one_more_global_in_a_whole_checkpoint_is_refused(checkpoint, tmp_path, legacy):
    marker = tmp_path / "executed"
    altered = checkpoint | {"notes": make_exploit("os.system", marker)}
    refuse(public_gnet.save(altered, tmp_path / "gnet.pt", legacy=legacy), "asks for posix.system")
    altered = checkpoint | {"notes": tmp_path}
    refuse(public_gnet.save(altered, tmp_path / "gnet.pt", legacy=legacy), "asks for pathlib")
    assert not marker.exists()


@FORMATS
def test_arrays_of_objects_are_refused(tmp_path, legacy):
    marker = tmp_path / "executed"
    array = np.array([make_exploit("os.system", marker)], dtype=object)
    path = public_gnet.save({"val_cc": {1: array}}, tmp_path / "gnet.pt", legacy=legacy)
    refuse(path, "asks for numpy.dtypes.ObjectDType")
    assert not marker.exists()


def refuse(path, sentence):
    with pytest.raises(DataError, match=sentence) as refusal:
        released_gnet.read_checkpoint(path)
    assert "\n" not in str(refusal.value)


def test_the_exploits_do_run_where_nothing_refuses_them(tmp_path):
    for kind in ("os.system", "eval", "exec"):
        marker = tmp_path / kind
        pickle.loads(pickle.dumps(make_exploit(kind, marker)))
        assert marker.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(6))
def test_bare_pickles_are_refused(tmp_path, protocol):
    marker, path = tmp_path / "executed", tmp_path / "gnet.pt"
    path.write_bytes(pickle.dumps(make_exploit("os.system", marker), protocol=protocol))
    refuse(path, "fetch it again from its source")
    assert not marker.exists()


@FORMATS
@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_files_are_refused(checkpoint, tmp_path, legacy, share):
    path = public_gnet.save(checkpoint, tmp_path / "gnet.pt", legacy=legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refuse(path, "is truncated or is no checkpoint")


@pytest.mark.filterwarnings("ignore")
def test_programs_and_missing_files_are_refused(tmp_path):
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), program)
    (tmp_path / "gnet.pt").write_bytes(program.getvalue())
    refuse(tmp_path / "gnet.pt", "is no checkpoint of tensors")
    refuse(tmp_path / "missing.pt", "missing.pt is missing; fetch it")


# --- what is refused after inspection ---


def put(value, *keys):
    """A change of a checkpoint: another value at a place."""

    def change(checkpoint):
        *parents, last = keys
        for key in parents:
            checkpoint = checkpoint[key]
        checkpoint[last] = value(checkpoint[last]) if callable(value) else value

    return change


def drop(*keys):
    def change(checkpoint):
        *parents, last = keys
        for key in parents:
            checkpoint = checkpoint[key]
        del checkpoint[last]

    return change


def spoil(array):
    array = copy.deepcopy(array)
    array.reshape(-1)[0] = float("nan")
    return array


ENC = ("best_params", "enc")
FWRF = ("best_params", "fwrfs", 1)
DIFFERENCES = [
    (drop("best_params"), "it lacks best_params"),
    (drop("best_params", "enc"), "it lacks best_params.enc"),
    (drop(*ENC, "enc.conv6b.conv1.bias"), "it lacks best_params.enc.enc.conv6b.conv1.bias"),
    (put(torch.zeros(1), *ENC, "dec"), "best_params.enc has dec, which the network does not know"),
    (
        put(torch.zeros(64, 64, 3, 3), *ENC, "enc.conv6b.conv1.weight"),
        r"conv6b.conv1.weight is float32 \(64, 64, 3, 3\) instead of float32 \(64, 256, 3, 3\)",
    ),
    (put(lambda t: t.double(), *ENC, "enc.bn1.bias"), r"float64 \(192,\) instead of float32"),
    (put(lambda t: t.numpy() * 1j, *ENC, "enc.bn1.bias"), "enc.bn1.bias is no array of numbers"),
    (put("text", *ENC, "enc.bn1.bias"), "enc.bn1.bias is no array of numbers"),
    (put(spoil, *ENC, "enc.conv3.weight"), "enc.conv3.weight holds non-finite values"),
    (put(torch.zeros(3, 227, 227), *ENC, "mu"), r"mu is float32 \(3, 227, 227\) instead of"),
    (put(lambda mean: mean + 0.01, "input_mean"), "input_mean is not best_params.enc.mu"),
    (drop("input_mean"), "it lacks input_mean"),
    (put({}, "best_params", "fwrfs"), r"has the keys \[\] where subjects are expected"),
    (put([], "best_params", "fwrfs"), r"has the keys \[\] where subjects are expected"),
    (put({"1": {}}, "best_params", "fwrfs"), r"has the keys \['1'\] where subjects are expected"),
    (drop(*FWRF, "rf1"), "it lacks best_params.fwrfs.1.rf1"),
    (drop("best_params", "fwrfs", 2), "val_cc is not of the same subjects as best_params.fwrfs"),
    (put(lambda w: w[:-1], *FWRF, "w"), r"fwrfs.1.w is float32 \(4, 512\) instead of .*\(5, 512\)"),
    (put(spoil, *FWRF, "rf0"), "best_params.fwrfs.1.rf0 holds non-finite values"),
    (drop("val_cc"), "it lacks val_cc"),
    (drop("val_cc", 1), "val_cc is not of the same subjects as best_params.fwrfs"),
    (put(lambda cc: cc[:-1], "val_cc", 1), r"subject 1 has \(4,\) values of val_cc for 5 voxels"),
    (put(np.float32(0.5), "val_cc", 1), "val_cc.1 is no array of numbers"),
    (put(np.array(0.5), "val_cc", 1), r"subject 1 has \(\) values of val_cc for 5 voxels"),
    (put(spoil, "val_cc", 1), "val_cc.1 holds non-finite values"),
    (put(3, "val_cc"), "val_cc is not of the same subjects"),
    (put(lambda roi: roi[:2], "voxel_roi", 1), r"subject 1 has \(2,\) values of voxel_roi for 5"),
    (put((4, 3, 6), "brain_nii_shape", 1), r"instead of a boolean for each voxel of \(4, 3, 6\)"),
    (put("many", "brain_nii_shape", 1), "brain_nii_shape.1 is no list of sizes"),
    (put(None, "brain_nii_shape", 1), "brain_nii_shape.1 is no list of sizes"),
    (put(lambda mask: mask.astype(int), "voxel_mask", 1), r"mask of subject 1 is int64 \(60,\)"),
    (put(lambda mask: ~mask, "voxel_mask", 1), "voxel_index and voxel_mask of subject 1"),
    (put(lambda index: index[::-1], "voxel_index", 1), "voxel_index and voxel_mask of subject 1"),
    (put(lambda index: index + 1, "voxel_index", 2), "voxel_index and voxel_mask of subject 2"),
]


@pytest.mark.parametrize(("change", "sentence"), DIFFERENCES, ids=[text for _, text in DIFFERENCES])
def test_what_differs_is_named(checkpoint, change, sentence):
    altered = copy.deepcopy(checkpoint)
    change(altered)
    with pytest.raises(DataError, match=sentence) as refusal:
        released_gnet.convert(altered, source="gnet.pt")
    assert str(refusal.value).startswith("gnet.pt is not the released GNet: ")
    assert str(refusal.value).endswith("; fetch it again from its source.")
    assert "\n" not in str(refusal.value)


def test_anything_but_a_checkpoint_is_refused():
    for other in (None, [], torch.zeros(3), {"state_dict": {}}):
        with pytest.raises(DataError, match="it lacks best_params"):
            released_gnet.convert(other, source="gnet.pt")


def test_arrays_of_the_other_byte_order_are_read(checkpoint):
    swapped = copy.deepcopy(checkpoint)
    swapped["voxel_roi"][1] = checkpoint["voxel_roi"][1].astype(">f8")
    tensors = released_gnet.convert(swapped, source="gnet.pt").tensors
    assert np.array_equal(tensors["subj01.voxel_roi"], checkpoint["voxel_roi"][1])


def test_counts_are_compared_where_the_volume_is_nsds():
    volume = published_counts.GRIDS["subj05"]
    verdict = released_gnet.compare_voxels("subj05", voxels=13039, volume_shape=volume)
    assert verdict == published_counts.AGREES
    verdict = released_gnet.compare_voxels("subj05", voxels=4, volume_shape=(3, 4, 3))
    assert verdict == published_counts.NOT_NSD
    with pytest.raises(DataError, match="13040 voxels of subj05 where NSD counts 13039"):
        released_gnet.compare_voxels("subj05", voxels=13040, volume_shape=volume)


# --- the rule ---


CONVERTED = "results/tiny/encoders/released_gnet.safetensors"


@pytest.fixture
def world(tmp_path):
    """A tiny world in which a model folder of one's own holds the checkpoint."""
    folder = tmp_path / "own"
    folder.mkdir()
    public_gnet.save(public_gnet.make_checkpoint(), folder / "gnet_multisubject.pt", legacy=False)
    return World(tmp_path)


def own(world, **pin):
    """The zoo's entry of that folder."""
    entry = {
        "role": "released brain-encoding model",
        "licence": "none",
        "loader": "gnet",
        "folder": str(world.folder / "own"),
        "files": {"gnet_multisubject.pt": pin},
    }
    return {"models": {"gnet": "own", "zoo": {"own": entry}}}


def test_the_rule_converts_a_checkpoint_that_was_checked(world):
    answer = world.snakemake(CONVERTED, changes=own(world))
    assert answer.succeeded, answer.text[-3000:]
    tensors, metadata = storage.read_tensors(world.folder / CONVERTED)
    receipt = storage.read_json(world.folder / "results/tiny/models/own/gnet_multisubject.pt.json")
    assert metadata["source_sha256"] == receipt["sha256"]
    expected = released_gnet.convert(public_gnet.make_checkpoint(), source="gnet.pt").tensors
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name], expected[name]) for name in tensors)
    assert answer.rules_to_run == {"check_model", "convert_gnet"}
    again = world.dry_run(CONVERTED, changes=own(world))
    assert again.succeeded and not again.rules_to_run


def test_a_checkpoint_that_is_not_the_pinned_one_is_never_opened(world):
    answer = world.snakemake(CONVERTED, changes=own(world, sha256="0" * 64))
    assert not answer.succeeded
    assert "gnet_multisubject.pt is {size: " in answer.text
    assert not (world.folder / CONVERTED).exists()


def test_it_is_planned_only_where_it_is_asked_for(tmp_path):
    def plan(*targets, **changes):
        changes |= {"paths": {"models": str(REPOSITORY / "resources/mini_models")}}
        overlays = (CORRECTED, MINIATURE, TINY)
        graph = read_graph(overlays, targets=targets, folder=tmp_path, changes=changes)
        return {job.rule for job in graph.jobs}

    assert "convert_gnet" not in plan()
    released = plan(encoding={"source": "released"})
    assert {"fetch_model", "check_model", "convert_gnet"} <= released
    assert plan(CONVERTED) == {"fetch_model", "check_model", "convert_gnet"}
