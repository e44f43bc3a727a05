"""What the judges see: every network runs once per set of images, in batches."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from neuraldiffuser import runtime
from neuraldiffuser.config.evaluation import Judge
from neuraldiffuser.config.models import NetworkSettings
from neuraldiffuser.errors import DataError
from neuraldiffuser.evaluation.correlation import correlate, standardise
from neuraldiffuser.evaluation.distances import correlation_distance, perceptual_distance
from neuraldiffuser.evaluation.identification import IDENTIFICATION
from neuraldiffuser.evaluation.metrics import SET_MEASURES, detailed
from neuraldiffuser.evaluation.quality import NOTES, QUALITY
from neuraldiffuser.features.images import resize, to_unit_range
from neuraldiffuser.features.networks import load_network
from neuraldiffuser.models.places import resolve

IMAGES_AT_ONCE = 64
# What is measured on features themselves; the other measures are of their correlations.
OF_FEATURES = QUALITY | {"perceptual": perceptual_distance}


class SetValue(NamedTuple):
    """A metric of a whole set of images, and what has to be said of it."""

    value: float
    note: str


def embed(network: nn.Module, images: np.ndarray, *, first_resize: int | None) -> dict[str, Tensor]:
    """Features of every node: uint8 (n, h, w, 3) to {node: (n, d) float32}.

    Raises:
        DataError: a network returns non-finite features.
    """
    features: dict[str, Tensor] = {}
    whole_float32 = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), whole_float32:
        for start in range(0, len(images), IMAGES_AT_ONCE):
            batch = to_unit_range(images[start : start + IMAGES_AT_ONCE])
            batch = batch.to(runtime.execution().device)
            if first_resize is not None:
                batch = resize(batch, first_resize, antialias=True)
            for node, rows in network(batch).items():
                whole = features.setdefault(node, rows.new_empty(len(images), rows.shape[1]))
                whole[start : start + len(rows)] = rows
    for node, values in features.items():
        if not torch.isfinite(values).all():
            raise DataError(
                f"the node {node} of an evaluation network returned non-finite features; "
                "fetch its weights again."
            )
    return features


def measure_networks(
    stimuli: np.ndarray,
    reconstructions: np.ndarray,
    *,
    load: Callable[[str], nn.Module],
    judges: Iterable[Judge],
    first_resize_of: Callable[[str], int | None],
) -> dict[str, np.ndarray | SetValue]:
    """The value of every judge.

    Args:
        stimuli: (n, h, w, 3) uint8.
        reconstructions: (n, repeats, h', w', 3) uint8, row by row of the same images.
        load: network by its name in the configuration.
        judges: what to measure, on networks that ``load`` knows.
        first_resize_of: width to which images are brought before a network's own preprocessing.

    Returns:
        By judge and convention: (n, repeats), (n,) where all repeats act together, or one number
        for the set.
    """
    values: dict[str, np.ndarray | SetValue] = {}
    for name, group in _group_by_network(judges).items():
        network, first_resize = load(name), first_resize_of(name)
        original = embed(network, stimuli, first_resize=first_resize)
        compare = _Comparison(original, group)
        views = [
            compare(embed(network, reconstructions[:, repeat], first_resize=first_resize))
            for repeat in runtime.progress(
                range(reconstructions.shape[1]), description=f"embedding with {name}", unit="repeat"
            )
        ]
        for judge in group:
            values |= _conclude(judge, [view[judge.name] for view in views], original[judge.node])
    return values


def _group_by_network(judges: Iterable[Judge]) -> dict[str, list[Judge]]:
    groups: dict[str, list[Judge]] = {}
    for judge in judges:
        groups.setdefault(judge.network, []).append(judge)
    return groups


class _Comparison:
    """Features of the stimuli, prepared once, with which those of every repeat are compared."""

    def __init__(self, original: Mapping[str, Tensor], judges: Iterable[Judge]) -> None:
        self.original = original
        self.judges = tuple(judges)
        correlated = {judge.node for judge in self.judges if judge.measure not in OF_FEATURES}
        self.standardised = {node: standardise(original[node]) for node in correlated}

    def __call__(self, reconstructed: Mapping[str, Tensor]) -> dict[str, Tensor | float]:
        """One repeat's correlations (n, n), once per node, or what features say, (n,) or one."""
        correlations = {
            node: correlate(rows, standardise(reconstructed[node])).cpu()
            for node, rows in self.standardised.items()
        }
        return {
            judge.name: OF_FEATURES[judge.measure](
                self.original[judge.node], reconstructed[judge.node]
            )
            if judge.measure in OF_FEATURES
            else correlations[judge.node]
            for judge in self.judges
        }


def _conclude(
    judge: Judge, views: Sequence[Tensor | float], original: Tensor
) -> dict[str, np.ndarray | SetValue]:
    """A judge's values, by each convention, from what it saw of every repeat."""
    if judge.measure in SET_MEASURES:
        return {judge.name: SetValue(float(np.mean(views)), NOTES[judge.measure](original))}
    if judge.measure in OF_FEATURES:
        return {judge.name: torch.stack(list(views), dim=1).cpu().numpy()}
    correlations = torch.stack(list(views))
    if judge.measure == "distance":
        return {judge.name: correlation_distance(correlations).numpy()}
    return {
        detailed(judge.name, convention): identify(correlations).numpy()
        for convention, identify in IDENTIFICATION.items()
    }


def split_judges(
    judges: Iterable[Judge], *, number: int, networks: Mapping[str, str], models: Collection[str]
) -> tuple[list[Judge], dict[str, str]]:
    """The judges that can measure, and by name of each other one, why it cannot.

    Args:
        judges: all of the configuration.
        number: images.
        networks: model of each network.
        models: those whose weights are there.
    """
    skipped = {}
    for judge in judges:
        model = networks[judge.network]
        if model not in models:
            skipped[judge.name] = f"not computed: the weights of {model} are not there"
        elif number < judge.minimum_images:
            needed = f"at least {judge.minimum_images} are needed"
            skipped[judge.name] = f"not computed: {number} images, {needed}"
    return [judge for judge in judges if judge.name not in skipped], skipped


def network_loader(
    networks: Mapping[str, NetworkSettings],
    *,
    loaders: Mapping[str, str],
    places: Mapping[str, Path | str],
) -> Callable[[str], nn.Module]:
    """Loads a network of the configuration by name onto the job's device.

    Args:
        networks: settings by name.
        loaders: which network each is, and so how its file is read.
        places: where each model's weights lie, see ``load_network``; also package://module/file.
    """

    def load(name: str) -> nn.Module:
        settings = networks[name]
        return load_network(
            settings,
            loader=loaders[name],
            path_to_weights=resolve(places[settings.model]),
            device=runtime.execution().device,
        )

    return load
