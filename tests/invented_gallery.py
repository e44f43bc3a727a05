"""A gallery of invented pictures and values, of any size, written by the workflow's own code."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reporting.invented_results import World, configure
from write_gallery import write_gallery

from neuraldiffuser import storage
from neuraldiffuser.evaluation.long_form import to_long_form
from neuraldiffuser.evaluation.metrics import choose_names, list_ensembled
from neuraldiffuser.reporting import gallery_page, thumbnails
from neuraldiffuser.reporting.sources import Sources

REPEATS = 5
DRAWN = 40  # strips; each stands for many images
PIXELS, ENLARGED = 96, 256
VARIANTS = ("guided", "unguided")
PAGE = Path(gallery_page.__file__).parent


@dataclass(frozen=True)
class Gallery:
    """Where the page is, and the planted values by variant: (images, subjects, repeats), and
    (images, subjects) of what all repeats have together.
    """

    page: Path
    ids: np.ndarray
    subjects: tuple[str, ...]
    pixcorr: dict[str, np.ndarray]
    consistency: dict[str, np.ndarray]

    def order_by(self, values: np.ndarray) -> list[int]:
        """Ids from the highest value to the lowest."""
        return self.ids[np.argsort(-values, kind="stable")].tolist()


def invent_gallery(folder: Path, *, images: int, subjects: int) -> Gallery:
    """A gallery of ``images`` test images x 5 repeats x ``subjects`` x 2 variants."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.permutation(73_000)[:images])
    names = tuple(f"subj{number + 1:02}" for number in range(subjects))
    mean, other, spread = (rng.permutation(images)[:, None, None] / images for _ in range(3))
    deviations = np.linspace(-0.1, 0.1, REPEATS) * np.ones((1, subjects, 1))
    pixcorr = {"guided": 0.8 * mean + spread * deviations, "unguided": 0.5 * other + deviations}
    consistency = {variant: rng.random((images, subjects)) for variant in VARIANTS}
    strips = _draw_strips(folder, rng)
    _link(strips[-1:] * images, folder / "thumbnails/stimulus", ids)
    config = configure(World(folder, folder, names, VARIANTS, images))
    named = choose_names(config.evaluation.judges, config.evaluation.conventions)
    chosen = gallery_page.choose_metrics(config.presentation, named)
    together = list_ensembled(config.evaluation.judges, config.evaluation.identification)
    for variant in VARIANTS:
        for number, subject in enumerate(names):
            where = folder / f"thumbnails/{variant}/{subject}"
            _link([strips[k] for k in rng.integers(DRAWN, size=images)], where, ids)
            storage.write_json(
                where.with_suffix(".json"), {"ids": ids.tolist(), "repeats": REPEATS}
            )
            values = {
                named.get(name, name): rng.random((images, REPEATS)[: 1 if name in together else 2])
                for name in chosen
            }
            values["pixcorr"] = pixcorr[variant][:, number]
            values["consistency"] = consistency[variant][:, number]
            storage.write_table(
                folder / f"evaluation/{variant}/{subject}/images.csv", to_long_form(ids, values)
            )
    runs = [(variant, subject) for variant in VARIANTS for subject in names]
    write_gallery(
        sources=Sources(
            {
                "thumbnails": [folder / f"thumbnails/{v}/{s}.json" for v, s in runs],
                "images": [folder / f"evaluation/{v}/{s}/images.csv" for v, s in runs],
            }
        ),
        page=gallery_page.Page(*(PAGE / f"gallery.{end}" for end in ("html.jinja", "css", "js"))),
        path_to_page=folder / "index.html",
        paths_to_values=[folder / f"values/{v}/{s}.js" for v, s in runs],
        experiment=config.presentation,
        conventions=config.evaluation.conventions,
    )
    return Gallery(folder / "index.html", ids, names, pixcorr, consistency)


def _draw_strips(folder: Path, rng: np.random.Generator) -> list[Path]:
    """Noise over smooth colours: about as large as strips of photographs."""
    paths = [folder / f"drawn/{number}.webp" for number in range(DRAWN)]
    for path in paths:
        smooth = rng.integers(0, 256, (REPEATS, 8, 8, 3)).repeat(32, 1).repeat(32, 2)
        pictures = (smooth + rng.normal(0, 32, smooth.shape)).clip(0, 255).astype(np.uint8)
        storage.write_bytes(path, thumbnails.encode_strip(pictures, PIXELS))
        large = path.parent / thumbnails.LARGE / path.name
        storage.write_bytes(large, thumbnails.encode_strip(pictures, ENLARGED))
    return paths


def _link(strips: list[Path], folder: Path, ids: np.ndarray) -> None:
    (folder / thumbnails.LARGE).mkdir(parents=True)
    for number, strip in zip(ids, strips, strict=True):
        name, large = thumbnails.name_strip(number), strip.parent / thumbnails.LARGE / strip.name
        os.link(strip, folder / name)
        os.link(large, folder / thumbnails.LARGE / name)
