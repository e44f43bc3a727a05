"""Writes the miniature world as an NSD bucket: the same paths, layouts, types and scaling.

Beside NSD's own files lies ``ground_truth/{subject}.h5``: the voxels' tuning, their noise-free
signal and noise ceilings, for tests; no stage of the workflow reads it.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io

from neuraldiffuser import runtime, storage
from neuraldiffuser.mini import recordings, scenes
from neuraldiffuser.mini.world import (
    REPEATS,
    World,
    coco_ids,
    coco_splits,
    master_ordering,
    picture_ids,
    planned_ids,
    require_whole_design,
)
from neuraldiffuser.nsd import files
from neuraldiffuser.nsd.design import subject_number

RUNS = 12
MATLAB_HEADER_BYTES = 116  # free text
SUBJECTS_OF_NSD = 8


def write_design(bucket: Path, world: World) -> None:
    """nsd_expdesign.mat; subjects that the world lacks repeat the last one's pictures."""
    rows = np.minimum(np.arange(SUBJECTS_OF_NSD), len(world.subjects) - 1)
    numbers = [subject_number(subject) - 1 for subject in world.subjects]
    rows[numbers] = np.arange(len(numbers))
    pictures = picture_ids(world)[rows]
    arrays = {
        "masterordering": master_ordering(world)[None] + 1.0,
        "subjectim": pictures + 1.0,
        "sharedix": pictures[:1, : world.settings.shared_images] + 1.0,
    }
    storage.write_bytes(bucket / files.DESIGN, encode_matlab(arrays))


def encode_matlab(arrays: Mapping[str, np.ndarray]) -> bytes:
    """A MATLAB 5 file; the same arrays give the same bytes, as its header has no date."""
    content = io.BytesIO()
    scipy.io.savemat(content, dict(arrays))
    header = b"MATLAB 5.0 MAT-file".ljust(MATLAB_HEADER_BYTES)
    return header + content.getvalue()[MATLAB_HEADER_BYTES:]


def write_stimulus_information(bucket: Path, world: World) -> None:
    """nsd_stim_info_merged.csv."""
    number = len(coco_ids(world))
    shared = picture_ids(world)[0, : world.settings.shared_images]
    table = pd.DataFrame(
        {
            "cocoId": coco_ids(world),
            "cocoSplit": coco_splits(world),
            "cropBox": "(0, 0, 0, 0)",
            "loss": 0.0,
            "nsdId": np.arange(number),
            "flagged": False,
            "BOLD5000": False,
            "shared1000": np.isin(np.arange(number), shared),
        }
    )
    trials = pd.concat([table, *_trial_columns(world, number)], axis=1)
    storage.write_bytes(bucket / files.STIMULUS_INFORMATION, trials.to_csv().encode())


def _trial_columns(world: World, number: int) -> list[pd.DataFrame]:
    """Per subject: whether it saw each picture, and in which (1-based) trials."""
    return [
        _trials_of_pictures(planned, number).add_prefix(f"subject{subject_number(subject)}")
        for subject, planned in planned_ids(world).items()
    ]


def _trials_of_pictures(planned: np.ndarray, number: int) -> pd.DataFrame:
    trials = np.zeros((number, REPEATS), np.int64)
    seen = np.unique(planned)
    trials[seen] = np.argsort(planned, kind="stable").reshape(-1, REPEATS) + 1
    names = [f"_rep{repeat}" for repeat in range(REPEATS)]
    return pd.DataFrame(trials, columns=names).assign(**{"": trials[:, 0] > 0})


def describe_responses(world: World, subject: str) -> pd.DataFrame:
    """The trials of responses.tsv: which picture each trial showed, and a made-up button press."""
    planned = planned_ids(world)[subject]
    session, position = np.divmod(np.arange(len(planned)), world.settings.trials_per_session)
    run = position * RUNS // world.settings.trials_per_session
    shown = pd.DataFrame(
        {"SUBJECT": subject_number(subject), "SESSION": session + 1, "RUN": run + 1}
    )
    order = pd.Series(master_ordering(world))
    rng = world.generator(subject, "responses")
    old = order.groupby(order).cumcount() > 0
    correct = rng.random(len(planned)) < 0.9
    return shown.assign(
        TRIAL=shown.groupby(["SESSION", "RUN"]).cumcount() + 1,
        **{"73KID": planned + 1, "10KID": order + 1},
        TIME=session + position * 4 / 86400,
        ISOLD=old.astype(int),
        ISCORRECT=correct.astype(int),
        RT=rng.normal(900, 150, len(planned)).round(3),
        BUTTON=np.where(old.to_numpy() == correct, 2, 1),
    )


def write_responses(bucket: Path, world: World, subject: str) -> None:
    """responses.tsv."""
    table = describe_responses(world, subject).to_csv(sep="\t", index=False)
    storage.write_bytes(bucket / files.responses(subject), table.encode())


def draw_pictures(world: World) -> list[scenes.Scene]:
    """The scene of every 73k id, in order."""
    numbers = runtime.progress(
        range(len(coco_ids(world))), description="drawing scenes", unit="scene"
    )
    return [
        scenes.draw_scene(seed=world.settings.seed, scene=number, size=world.settings.image_size)
        for number in numbers
    ]


def write_stimuli(bucket: Path, drawn: Sequence[scenes.Scene]) -> None:
    """nsd_stimuli.hdf5: imgBrick uint8 (pictures, height, width, 3)."""
    pictures = np.stack([scene.image for scene in drawn])
    storage.write_arrays(bucket / files.STIMULI, {"imgBrick": pictures})


def write_captions(bucket: Path, drawn: Sequence[scenes.Scene], world: World) -> None:
    """COCO's archive of annotations, with the two caption files."""
    annotations: dict[str, list[dict]] = {"train2017": [], "val2017": []}
    for scene, coco, split in zip(drawn, coco_ids(world), coco_splits(world), strict=True):
        for text in scenes.captions(scene):
            number = 1 + sum(map(len, annotations.values()))
            entry = {"image_id": int(coco), "id": number, "caption": text}
            annotations[split].append(entry)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, entries in annotations.items():
            name = zipfile.ZipInfo(f"annotations/captions_{split}.json", (2017, 9, 1, 0, 0, 0))
            text = json.dumps({"annotations": entries})
            archive.writestr(name, text, zipfile.ZIP_DEFLATED)
    storage.write_bytes(bucket / files.CAPTIONS_ARCHIVE, content.getvalue())


def write_bucket(bucket: Path, world: World) -> None:
    """Writes the whole bucket.

    Raises:
        ConfigError: sessions, trials and pictures do not fit together.
    """
    require_whole_design(world)
    drawn = draw_pictures(world)
    write_design(bucket, world)
    write_stimulus_information(bucket, world)
    write_stimuli(bucket, drawn)
    write_captions(bucket, drawn, world)
    for subject in runtime.progress(world.subjects, description="simulating brains", unit="brain"):
        write_responses(bucket, world, subject)
        recordings.write_recordings(bucket, world, name=subject, drawn=drawn)
