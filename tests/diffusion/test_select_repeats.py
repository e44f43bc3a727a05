"""From shards and decoded layers to the choice of a repeat, and from there to chosen images."""

import numpy as np
import pandas as pd
import pytest
import torch
from select_repeats import select_repeats
from tiny_engine import CLIP_IMAGE, IDS, describe_origin, write_receipt

from neuraldiffuser import storage
from neuraldiffuser.diffusion.store import read_reconstructions, write_reconstructions
from neuraldiffuser.errors import DataError
from neuraldiffuser.features.clip_image import load_clip_image
from neuraldiffuser.features.images import to_unit_range

HELD_OUT = np.array([60, 61, 62, 63])
PLANTED = {11: 2, 205: 0, 4999: 1}
REPEATS = 3


def draw_images(seed, *leading):
    """Flat colours with noise, which a random tower tells apart."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (*leading, 1, 1, 3))
    return (colours + rng.integers(-40, 40, (*leading, 32, 32, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def embed(path_to_clip):
    """Images to their CLIP layers, by target."""
    network = load_clip_image(path_to_clip, **CLIP_IMAGE.model_dump())

    def compute(images):
        with torch.inference_mode():
            layers = network(to_unit_range(images))
        return {f"clip_image_{layer:02d}": rows.numpy() for layer, rows in layers.items()}

    return compute


def write_embeddings(folder, name, **groups):
    """embeddings/{target}/{name}.h5 with groups of (ids, rows by target)."""
    targets = next(iter(groups.values()))[1]
    paths = []
    for target in targets:
        arrays = {f"{group}/id": ids for group, (ids, _) in groups.items()}
        arrays |= {f"{group}/embedding": rows[target] for group, (_, rows) in groups.items()}
        paths.append(folder / "embeddings" / target / f"{name}.h5")
        storage.write_arrays(paths[-1], arrays, describe_origin(target))
    return paths


@pytest.fixture
def arguments(tmp_path, path_to_clip, embed):
    """Two shards whose planted repeats were decoded, but for noise."""
    images = draw_images(0, len(IDS), REPEATS)
    paths = [tmp_path / f"reconstructions/guided/subj01/shard-{shard}.h5" for shard in (0, 1)]
    for path, rows in zip(paths, ([2, 0], [1]), strict=True):
        write_reconstructions(path, ids=IDS[rows], images=images[rows], attributes={})
    rng = np.random.default_rng(1)
    seen = embed(images[np.arange(len(IDS)), list(PLANTED.values())])
    decoded = {
        target: rows + 0.3 * rows.std() * rng.normal(size=rows.shape).astype(np.float32)
        for target, rows in seen.items()
    }
    return {
        "paths_to_reconstructions": paths,
        "paths_to_decoded": write_embeddings(tmp_path, "subj01", test=(IDS, decoded)),
        # No test image is among the stimuli: a selection must not need one.
        "paths_to_stimuli": write_embeddings(
            tmp_path, "stimulus", validation=(HELD_OUT, embed(draw_images(2, len(HELD_OUT))))
        ),
        "path_to_weights": path_to_clip / "open_clip_model.safetensors",
        "paths_to_receipts": [write_receipt(tmp_path)],
        "path_to_selection": tmp_path / "selections/guided_best/subj01.csv",
        "clip_image": CLIP_IMAGE,
        "by": "decoded_features",
    }


def test_the_repeat_that_was_decoded_is_chosen_and_read(arguments):
    select_repeats(**arguments)
    path = arguments["path_to_selection"]
    table = pd.read_csv(path)
    assert table.columns.tolist() == ["id", "repeat", "similarity", "chosen"]
    assert table["id"].tolist() == np.repeat(IDS, REPEATS).tolist()
    chosen = table[table["chosen"]]
    assert dict(zip(chosen["id"], chosen["repeat"], strict=True)) == PLANTED
    ids, images = read_reconstructions(arguments["paths_to_reconstructions"], path)
    assert ids.tolist() == list(PLANTED)
    expected = draw_images(0, len(IDS), REPEATS)[np.arange(len(IDS)), list(PLANTED.values())]
    assert np.array_equal(images, expected[:, None])


def test_similarities_belong_to_their_images_and_repeats(arguments, embed):
    select_repeats(**arguments)
    table = pd.read_csv(arguments["path_to_selection"]).set_index(["id", "repeat"])
    ids, images = read_reconstructions(arguments["paths_to_reconstructions"])
    for number, repeats in zip(ids, images, strict=True):
        expected = np.zeros(REPEATS)
        seen = embed(repeats)
        for own, stimuli in zip(
            arguments["paths_to_decoded"], arguments["paths_to_stimuli"], strict=True
        ):
            mean = storage.read_array(stimuli, "validation/embedding").mean(axis=0).ravel()
            decoded = storage.read_rows(own, [number], "test/embedding", "test/id").ravel()
            rows = seen[own.parent.name].reshape(REPEATS, -1)
            expected += [np.corrcoef(row - mean, decoded - mean)[0, 1] for row in rows]
        np.testing.assert_allclose(table.loc[number, "similarity"], expected / 6, atol=1e-5)


def test_layers_of_another_node_are_refused(arguments):
    clip_image = CLIP_IMAGE.model_copy(update={"node": "mlp_projection"})
    with pytest.raises(DataError, match="targets of node block_output"):
        select_repeats(**arguments | {"clip_image": clip_image})


def test_stimuli_without_held_out_images_are_refused(arguments):
    path = arguments["paths_to_stimuli"][0]
    with storage.open_arrays(path) as file:
        shape = file["validation/embedding"].shape[1:]
    nothing = {"validation/id": np.zeros(0, int), "validation/embedding": np.zeros((0, *shape))}
    storage.write_arrays(path, nothing, storage.read_attributes(path))
    with pytest.raises(DataError, match="has no validation images to average"):
        select_repeats(**arguments)
