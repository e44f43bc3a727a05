"""The figures that show reconstructions beside other methods' and other guidance functions'."""

from pathlib import Path

from neuraldiffuser.config.report import Presentation
from neuraldiffuser.errors import DataError
from neuraldiffuser.reporting import labels, pictures
from neuraldiffuser.reporting.result import Figure
from neuraldiffuser.reporting.sources import Sources

OPTIMISED = ("MindDiffuser", "MindEye+BOI", "DREAM")  # as Table 1 groups them
BESIDE = (
    "Right of them, other methods' pictures as they were given; only images are shown that one of "
    "these methods has."
)
NO_RIVALS = (
    "Nobody may ship other methods' pictures: put them into the folder report.rival_images, as "
    "{method}/{73k id}.png, and they stand here."
)


def show_rivals(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 6: ours beside other methods' pictures, where somebody has them."""
    report = experiment.report
    names = experiment.ran([report.headline, report.baseline])
    rivals = {m: found for m, found in read_rivals(sources).items() if m not in OPTIMISED}
    return pictures.show_grid(
        sources,
        experiment,
        [pictures.make_column(name, experiment) for name in names],
        rivals=rivals,
        title="Beside other methods (Fig. 6)",
        caption="Left: the stimulus. Then the first of the repeats with guidance and without, from "
        f"the responses of {experiment.subjects[0]}; below it, its PixCorr with the stimulus. "
        + (BESIDE if rivals else NO_RIVALS),
    )


def show_guidance_functions(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 7: ours beside other guidance functions that ran, and other methods that optimise."""
    title = "Beside other kinds of guidance (Fig. 7)"
    rivals = {m: found for m, found in read_rivals(sources).items() if m in OPTIMISED}
    names = list_functions(experiment)
    if len(names) < 2 and not rivals:
        return pictures.say_pending(title, f"No other guidance function has been run. {NO_RIVALS}")
    variants = experiment.variants
    columns = [
        pictures.Column(
            labels.label_functions(variants[n]).replace(" + ", " +\n"), n, experiment.subjects[0]
        )
        for n in names
    ]
    return pictures.show_grid(
        sources,
        experiment,
        columns,
        rivals=rivals,
        title=title,
        caption="Left: the stimulus. Then the first of the repeats under each guidance function, "
        f"from the responses of {experiment.subjects[0]}; below it, its PixCorr with the stimulus. "
        + (BESIDE if rivals else NO_RIVALS),
    )


def list_functions(experiment: Presentation) -> list[str]:
    """A variant per guidance function that ran with the image's own features, the method first."""
    first: dict[tuple[str, ...], str] = {}
    for name in experiment.ran([experiment.report.headline]) + experiment.brain_variants():
        variant = experiment.variants[name]
        if variant.terms and variant.features == "own" and name not in experiment.selections:
            first.setdefault(tuple(variant.terms), name)
    return list(first.values())


def read_rivals(sources: Sources) -> dict[str, dict[int, Path]]:
    """Other methods' pictures: by method, then by 73k id.

    Raises:
        DataError: a picture is not named by an id.
    """
    found: dict[str, dict[int, Path]] = {}
    for who, path in sources.files("rivals"):
        if not who["id"].isdecimal():
            raise DataError(
                f"{path} is not named by a 73k id; name the pictures in report.rival_images "
                "{method}/{73k id}.png."
            )
        found.setdefault(who["method"], {})[int(who["id"])] = path
    return found


def show_brain_guidance(sources: Sources, experiment: Presentation) -> Figure:
    """Fig. 11: guidance by the encoding model beside that by CLIP layers, for each subject."""
    title = "Guidance by a brain encoding model (Fig. 11)"
    by_encoder = [
        name
        for name in list_functions(experiment)
        if tuple(experiment.variants[name].terms) == ("encoder",)
    ]
    if not by_encoder:
        reason = "No variant that the encoding model alone guides is run in this experiment."
        return pictures.say_pending(title, reason)
    names = [*experiment.ran([experiment.report.headline]), *by_encoder]
    columns = [
        pictures.Column(f"{who}\n{labels.label_functions(experiment.variants[name])}", name, who)
        for who in experiment.subjects
        for name in names
    ]
    return pictures.show_grid(
        sources,
        experiment,
        columns,
        title=title,
        caption="Left: the stimulus. Then, for each subject, the first of the repeats guided by "
        "CLIP layers, and guided by the model that predicts the subject's responses; below it, its "
        "PixCorr with the stimulus.",
        group_size=len(names),
    )
