"""The figures that show reconstructions, beside the stimuli they stand for.

Which test images are shown is a rule, not a choice: images at evenly spaced ranks of the PixCorr of
the headline variant (averaged over subjects and repeats), the best and the worst among them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
from PIL import Image

from neuraldiffuser import storage, words
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.diffusion.store import pick_chosen
from neuraldiffuser.errors import DataError
from neuraldiffuser.nsd.stimuli import read_images
from neuraldiffuser.reporting import labels, sheets
from neuraldiffuser.reporting.result import Figure
from neuraldiffuser.reporting.sources import Sources, find_files

RULE = (
    "The images stand at evenly spaced ranks of the {variant} variant's PixCorr, from the best "
    "test image to the worst; none was chosen by eye."
)
FIRST_REPEAT = 0
NARROW = 3  # with so few columns, rows stand in two blocks beside each other


@dataclass(frozen=True)
class Column:
    """One column of a figure: whose reconstruction by which variant, and which repeat."""

    heading: str
    variant: str
    subject: str
    repeat: int = FIRST_REPEAT


def choose_images(
    sources: Sources,
    experiment: Presentation,
    count: int,
    *,
    among: Collection[int] | None = None,
) -> pd.Series:
    """PixCorr of the headline variant by id, for ``count`` evenly spaced ranks, best first.

    Args:
        sources: values of the images.
        experiment: which variant is the headline.
        count: how many, at most.
        among: the ids to choose from; None for all.
    """
    values = read_pixcorr(sources)
    if values.empty:
        return pd.Series(dtype=float)
    headline = values[values["variant"] == experiment.report.headline]
    chosen = headline if len(headline) else values
    means = chosen.groupby("id")["value"].mean().sort_values(ascending=False, kind="stable")
    if among is not None:
        means = means[means.index.isin(list(among))]
    ranks = np.linspace(0, len(means) - 1, min(count, len(means))).round().astype(int)
    return means.iloc[ranks]


def read_pixcorr(sources: Sources) -> pd.DataFrame:
    """PixCorr of single reconstructions: variant, subject, id, repeat, value."""
    images = sources.table("images")
    if images.empty:
        return images
    return images[images["metric"] == "pixcorr"].drop(columns="metric")


def read_repeats(
    sources: Sources, *, variant: str, maker: str, subject: str, ids: Sequence[int]
) -> dict[int, np.ndarray]:
    """Reconstructions of some test images by id, each uint8 (repeats, h, w, 3).

    Args:
        sources: shards, and what selections chose.
        variant: or a selection, of which the chosen repeat alone is read.
        maker: the variant that made the images.
        subject: whose.
        ids: 73k ids.

    Raises:
        DataError: an id is in none of the shards, or a selection was not made from them.
    """
    found: dict[int, np.ndarray] = {}
    for path in find_files(sources, "reconstructions", variant=maker, subject=subject):
        here = np.intersect1d(storage.read_array(path, "id"), ids)
        if len(here):
            rows = storage.read_rows(path, here, name="images")
            for chosen in find_files(sources, "selections", variant=variant, subject=subject):
                rows = pick_chosen(chosen, ids=here, images=rows)
            found |= dict(zip(here.tolist(), rows, strict=True))
    missing = sorted(set(map(int, ids)) - set(found))
    if missing:
        raise DataError(
            f"No shard of {maker} for {subject} holds image {missing[0]}; delete "
            f"reconstructions/{maker}/{subject} and run again."
        )
    return found


def read_columns(
    sources: Sources, experiment: Presentation, columns: Sequence[Column], *, ids: Sequence[int]
) -> list[dict[int, np.ndarray]]:
    """The reconstructions behind each column, as ``read_repeats`` gives them."""
    return [
        read_repeats(
            sources,
            variant=column.variant,
            maker=experiment.maker(column.variant),
            subject=column.subject,
            ids=ids,
        )
        for column in columns
    ]


def show_examples(sources: Sources, experiment: Presentation) -> Figure:
    """Stimuli beside one reconstruction by each main variant, for the first subject."""
    report = experiment.report
    names = experiment.ran(
        [report.baseline, report.headline, *report.controls, *report.upper_bounds]
    )
    columns = [make_column(name, experiment) for name in names]
    return show_grid(
        sources,
        experiment,
        columns,
        title="What was seen, and what was reconstructed",
        caption="Left: the stimulus. Then the first of the repeats by each variant, from the "
        f"responses of {experiment.subjects[0]}; below it, its PixCorr with the stimulus. "
        "Variants called ground truth start from the stimulus' own embeddings.",
    )


def show_hyperparameters(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 8: guidance of growing scale and strength."""
    columns = order_columns(experiment)
    if len(columns) < 3:
        return say_pending(
            "Guidance scale and strength (Fig. 8)",
            "The sweep over guidance scales and strengths has not been run in this experiment.",
        )
    return show_grid(
        sources,
        experiment,
        columns,
        title="Guidance scale and strength (Fig. 8)",
        caption="Left: the stimulus. Then the first repeat for growing guidance scale κ and "
        f"strength η, from the responses of {experiment.subjects[0]}; below it, its PixCorr.",
    )


def order_columns(experiment: Presentation) -> list[Column]:
    """A column per guidance scale and strength that was run, from none to most."""
    names = [n for n in experiment.brain_variants() if labels.is_of_sweep(n, experiment)]
    return [
        Column(labels.describe_guidance(name, experiment.variants), name, experiment.subjects[0])
        for name in labels.order_by_guidance(names, experiment.variants)
    ]


def show_subjects(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 10: the same images from each subject's responses."""
    headline = experiment.report.headline
    columns = [Column(name, headline, name) for name in experiment.subjects]
    return show_grid(
        sources,
        experiment,
        columns if headline in experiment.run else [],
        title="The same images, different brains (Fig. 10)",
        caption="Left: the stimulus. Then the first repeat of the "
        f"{labels.label_variant(headline)} variant from each subject's responses; below it, its "
        "PixCorr with the stimulus.",
    )


def make_column(name: str, experiment: Presentation) -> Column:
    """A variant's column: of the first subject, or from ground truth."""
    from_brain = experiment.variants[name].source == "brain"
    subject = experiment.subjects[0] if from_brain else "stimulus"
    return Column(labels.label_variant(name).replace(", ", ",\n"), name, subject)


def show_grid(
    sources: Sources,
    experiment: Presentation,
    columns: Sequence[Column],
    *,
    title: str,
    caption: str,
    rivals: Mapping[str, Mapping[int, Path]] = MappingProxyType({}),
    group_size: int | None = None,
) -> Figure:
    """A row per chosen image: the stimulus, a column per variant or subject, and per rival.

    Args:
        sources: pictures and values.
        experiment: what was run.
        columns: whose reconstructions.
        title: of the figure.
        caption: how to read it.
        rivals: other methods' pictures by id; then only images are shown that one of them has.
        group_size: how many columns stand close to each other; None for all.
    """
    among = {number for found in rivals.values() for number in found} if rivals else None
    chosen = choose_images(sources, experiment, experiment.report.example_images, among=among)
    if rivals and chosen.empty:
        raise DataError(
            "report.rival_images holds no picture of a test image; name them {method}/{73k id}.png."
        )
    if chosen.empty or not columns:
        return say_pending(title, "No reconstruction has been made and evaluated yet.")
    shown = _list_tiles(columns, chosen, read_pixcorr(sources))
    stimuli = read_images(sources.only("stimuli"), chosen.index.to_numpy())
    repeats = read_columns(sources, experiment, columns, ids=chosen.index)
    tiles = [
        [
            stimulus,
            *(made[i][c.repeat] for c, made in zip(columns, repeats, strict=True)),
            *(_read_rival(found.get(i)) for found in rivals.values()),
        ]
        for i, stimulus in zip(chosen.index, stimuli, strict=True)
    ]
    notes = [
        ["", *map(words.write_number, rows["pixcorr"]), *[""] * len(rivals)]
        for _, rows in _by_image(shown)
    ]
    count = len(columns) + len(rivals)
    starts = range(1, 1 + len(columns), group_size or len(columns))
    names = _rank_names(len(chosen))
    blocks = [
        sheets.draw_grid(
            tiles[part],
            columns=["stimulus", *(column.heading for column in columns), *rivals],
            rows=names[part],
            width=fit_width(count + 1, experiment.report.tile_pixels),
            notes=notes[part],
            group_starts=[*starts, len(columns) + 1],
        )
        for part in _divide(len(chosen), into=2 if count <= NARROW else 1)
    ]
    return Figure(
        title=title,
        caption=f"{caption} {_tell_rule(experiment)}",
        alt=" ".join([_tell_tiles(shown), *_tell_rivals(rivals)]),
        data=shown,
        image=sheets.encode_png(sheets.lay_out(blocks, columns=len(blocks))),
    )


def _read_rival(path: Path | None) -> np.ndarray | None:
    """The picture, uint8 (h, h, 3), or nothing where a method has none."""
    if path is None:
        return None
    with Image.open(path) as picture:
        if picture.width != picture.height:
            raise DataError(
                f"{path} has {picture.width} x {picture.height} pixels; crop it to a square as "
                "NSD's stimuli are."
            )
        return np.asarray(picture.convert("RGB"))


def _divide(count: int, *, into: int) -> list[slice]:
    """Consecutive slices of nearly equal length."""
    ends = np.linspace(0, count, into + 1).round().astype(int)
    return [slice(low, high) for low, high in zip(ends[:-1], ends[1:], strict=True)]


def fit_width(columns: int, wanted: int) -> int:
    """Pixels per picture: as wanted, less where a sheet would pass about 1700 pixels."""
    return max(64, min(wanted, 1700 // columns))


def _rank_names(count: int) -> list[str]:
    middle = ["median" if 2 * i == count - 1 else "" for i in range(1, count - 1)]
    return ["best", *middle, "worst"][:count]


def _list_tiles(
    columns: Sequence[Column], chosen: pd.Series, pixcorr: pd.DataFrame
) -> pd.DataFrame:
    """One row per picture shown: id, variant, subject, repeat, pixcorr."""
    tiles = pd.DataFrame(
        [(i, c.variant, c.subject, c.repeat) for i in chosen.index for c in columns],
        columns=["id", "variant", "subject", "repeat"],
    )
    measured = pixcorr.rename(columns={"value": "pixcorr"})
    return tiles.merge(measured, how="left", on=["id", "variant", "subject", "repeat"])


def _by_image(tiles: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    return list(tiles.groupby("id", sort=False))


def _tell_rule(experiment: Presentation) -> str:
    return RULE.format(variant=labels.label_variant(experiment.report.headline))


def _tell_tiles(tiles: pd.DataFrame) -> str:
    """Mean PixCorr of the pictures shown, by variant (by subject where there is one variant)."""
    key = "variant" if tiles["variant"].nunique() > 1 else "subject"
    told = [
        f"{labels.label_variant(name)} {words.write_number(value)}"
        for name, value in tiles.groupby(key, sort=False)["pixcorr"].mean().items()
    ]
    return (
        f"{words.write_count(tiles['id'].nunique(), 'stimulus image')} beside reconstructions. "
        f"Mean PixCorr of those shown: {', '.join(told)}."
    )


def _tell_rivals(rivals: Iterable[str]) -> list[str]:
    names = list(rivals)
    return [f"Beside them pictures of {words.join_words(names)}."] if names else []


def show_repeats(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 9: all repeats, with and without guidance, from the truth and from the brain."""
    title = "Repeats, with and without guidance (Fig. 9)"
    report = experiment.report
    names = experiment.ran([*report.upper_bounds, report.baseline, report.headline])
    chosen = choose_images(sources, experiment, min(report.example_images, 4))
    if chosen.empty or not names:
        return say_pending(title, "No reconstruction has been made and evaluated yet.")
    columns = [make_column(name, experiment) for name in names]
    stimuli = read_images(sources.only("stimuli"), chosen.index.to_numpy())
    made = read_columns(sources, experiment, columns, ids=chosen.index)
    blocks = [
        _draw_block(stimulus, [m[i] for m in made], columns, fit_width(14, report.tile_pixels))
        for i, stimulus in zip(chosen.index, stimuli, strict=True)
    ]
    shown = _list_repeats(columns, made, read_pixcorr(sources))
    return Figure(
        title=title,
        caption="Blocks are test images: the stimulus, then every repeat (columns; each starts "
        "from other noise). Rows: ground-truth embeddings without and with guidance, which bound "
        f"what decoding could reach, then embeddings decoded from {experiment.subjects[0]} without "
        f"and with guidance. Rows that repeat themselves are consistent. {_tell_rule(experiment)}",
        alt=_tell_tiles(shown),
        data=shown,
        image=sheets.encode_png(sheets.lay_out(blocks, columns=2)),
    )


def _draw_block(
    stimulus: np.ndarray, repeats: Sequence[np.ndarray], columns: Sequence[Column], width: int
) -> Image.Image:
    """One test image: a row per variant, a column per repeat; the stimulus stands at the left."""
    count = max(len(images) for images in repeats)
    rows = [
        [stimulus if number == 0 else None, *images, *[None] * (count - len(images))]
        for number, images in enumerate(repeats)
    ]
    return sheets.draw_grid(
        rows,
        columns=["stimulus", *(str(number + 1) for number in range(count))],
        rows=[column.heading for column in columns],
        width=width,
    )


def _list_repeats(
    columns: Sequence[Column],
    made: Sequence[dict[int, np.ndarray]],
    pixcorr: pd.DataFrame,
) -> pd.DataFrame:
    every = [
        Column(c.heading, c.variant, c.subject, repeat)
        for c, images in zip(columns, made, strict=True)
        for repeat in range(len(next(iter(images.values()))))
    ]
    return _list_tiles(every, pd.Series(0.0, index=list(made[0])), pixcorr)


def say_pending(title: str, reason: str) -> Figure:
    """A figure that says in words why there is nothing to show."""
    return Figure(
        title=title,
        caption=reason,
        alt=reason,
        data=pd.DataFrame({"pending": [reason]}),
        image=sheets.encode_png(sheets.draw_message(reason)),
        pending=reason,
    )
