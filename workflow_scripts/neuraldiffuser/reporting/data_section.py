"""The report's section on data: voxels, sessions, trials, repeats and noise ceilings by subject."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from neuraldiffuser import storage, words
from neuraldiffuser.nsd import rois
from neuraldiffuser.nsd.data_card import NO_SESSION, REPEATS, DataCard
from neuraldiffuser.reporting import regions
from neuraldiffuser.reporting.layout import Cell, Line, Part

REGIONS = {region: name for region, (name, _) in regions.REGIONS.items()}
REGIONS[rois.WHOLE] = "all of nsdgeneral"


def read_card(paths: Mapping[str, Path]) -> DataCard:
    """The data card from its tables "subjects", "regions" and "trials"."""
    return DataCard(**{name: storage.read_table(path) for name, path in paths.items()})


def tell_comparison(card: DataCard) -> list[str]:
    """Whose counts agree with NSD's, and whose data are not NSD's."""
    names = card.subjects.groupby("published_counts", sort=False)["subject"].agg(list)
    return [
        f"{said[0].upper()}{said[1:]} ({words.join_words(some)})." for said, some in names.items()
    ]


def list_missing_sessions(card: DataCard) -> list[str]:
    """A sentence for every subject that lacks sessions."""
    lacking = card.subjects[card.subjects["missing_sessions"] != NO_SESSION]
    return [
        f"{row.subject} lacks sessions that the bucket does not hold: {row.missing_sessions}."
        for row in lacking.itertuples()
    ]


def lay_out_card(card: DataCard) -> list[tuple[Part, str]]:
    """The grids of the section with their captions."""
    return [
        (
            lay_out_subjects(card),
            "Dropped voxels belong to nsdgeneral but are not used; invalid ones are constant "
            "through a whole session, which is NSD's mark for no data.",
        ),
        (
            lay_out_repeats(card),
            "Images shown once (1\N{MULTIPLICATION SIGN}), twice and three times in the sessions "
            "used, with their share of the split's images.",
        ),
        (
            lay_out_noise_ceilings(card),
            "How much of a voxel's variance over images (mean of three trials) any model could "
            "explain: mean over the voxels of a region, the range from the 10 % to the 90 % "
            "quantile in brackets, the number of voxels in parentheses.",
        ),
    ]


def lay_out_subjects(card: DataCard) -> Part:
    """Voxels and sessions, and what is missing from them."""
    whole = card.regions[card.regions["region"] == rois.WHOLE].set_index("subject")
    lines = [
        Line(
            "",
            row.subject,
            (
                Cell(words.group_thousands(row.voxels)),
                Cell(words.group_thousands(row.dropped_voxels)),
                _show_invalid(whole.loc[row.subject]),
                Cell(str(row.sessions)),
                Cell(str(row.missing_sessions)),
            ),
        )
        for row in card.subjects.itertuples()
    ]
    headings = ("voxels", "dropped", "invalid", "sessions", "missing sessions")
    return Part("Voxels and sessions", headings, ("",) * len(headings), tuple(lines))


def _show_invalid(region: pd.Series) -> Cell:
    times = words.write_count(region["invalid_voxel_sessions"], "voxel-session")
    return Cell(words.group_thousands(region["invalid_voxels"]), times)


def lay_out_repeats(card: DataCard) -> Part:
    """Trials and images of both splits, and how often the images were shown."""
    rows = {
        (subject, split): _count_trials(part.iloc[0])
        for (subject, split), part in card.trials.groupby(["subject", "split"])
    }
    splits = list(dict.fromkeys(card.trials["split"]))
    lines = [
        Line("", subject, tuple(cell for split in splits for cell in rows[subject, split]))
        for subject in card.subjects["subject"]
    ]
    headings = ("trials", "images", *(f"{times}\N{MULTIPLICATION SIGN}" for times in REPEATS))
    groups = tuple(split.capitalize() for split in splits for _ in headings)
    return Part("Trials, images and their repeats", headings * len(splits), groups, tuple(lines))


def _count_trials(row: pd.Series) -> list[Cell]:
    """Cells with trials, images, and images by how often they were shown."""
    trials, images, *repeats = row[["trials", "images", *REPEATS.values()]]
    shares = [Cell(words.group_thousands(n), f"{100 * n / images:.0f} %") for n in repeats]
    return [Cell(words.group_thousands(trials)), Cell(words.group_thousands(images)), *shares]


def lay_out_noise_ceilings(card: DataCard) -> Part:
    """Mean noise ceilings with quantiles, and the number of voxels in parentheses."""
    cells = {(row.subject, row.region): _show_ceiling(row) for row in card.regions.itertuples()}
    lines = [
        Line("", subject, tuple(cells.get((subject, region), Cell()) for region in REGIONS))
        for subject in card.subjects["subject"]
    ]
    headings = tuple(REGIONS.values())
    return Part("Noise ceilings (%)", headings, ("",) * len(headings), tuple(lines))


def _show_ceiling(row: tuple) -> Cell:
    return Cell(
        f"{row.noise_ceiling:.1f}",
        f"[{row.noise_ceiling_10:.0f}, {row.noise_ceiling_90:.0f}]",
        words.group_thousands(row.voxels),
    )
