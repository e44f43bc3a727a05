"""A gallery of invented pictures and values, of any size, written by the workflow's own code."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from reporting.invented_results import World, configure
from write_gallery import write_gallery

from neuraldiffuser import storage
from neuraldiffuser.evaluation.metrics import choose_names
from neuraldiffuser.reporting import gallery_page, thumbnails
from neuraldiffuser.reporting.sources import Sources

REPEATS = 5
DRAWN = 40  # strips; each stands for many images
PIXELS = 96
VARIANTS = ("guided", "unguided")
PAGE = Path(gallery_page.__file__).parent


@dataclass(frozen=True)
class Gallery:
    """Where the page is, and the planted values: by variant (images, subjects, repeats)."""

    page: Path
    ids: np.ndarray
    subjects: tuple[str, ...]
    pixcorr: dict[str, np.ndarray]

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
    strips = _draw_strips(folder, rng)
    _link(strips[-1:] * images, folder / "thumbnails/stimulus", ids)
    config = configure(World(folder, folder, names, VARIANTS, images))
    named = choose_names(config.evaluation.judges, config.evaluation.conventions)
    chosen = gallery_page.choose_metrics(config.presentation, named)
    shown = [name for name in chosen if name != "pixcorr"]
    for variant in VARIANTS:
        for number, subject in enumerate(names):
            where = folder / f"thumbnails/{variant}/{subject}"
            _link([strips[k] for k in rng.integers(DRAWN, size=images)], where, ids)
            storage.write_json(
                where.with_suffix(".json"), {"ids": ids.tolist(), "repeats": REPEATS}
            )
            tables = [
                _long_form(ids, named.get(name, name), rng.random((images, REPEATS)))
                for name in shown
            ]
            tables.append(_long_form(ids, "pixcorr", pixcorr[variant][:, number]))
            storage.write_table(
                folder / f"evaluation/{variant}/{subject}/images.csv", pd.concat(tables)
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
    return Gallery(folder / "index.html", ids, names, pixcorr)


def _draw_strips(folder: Path, rng: np.random.Generator) -> list[Path]:
    """Noise over smooth colours: about as large as strips of photographs."""
    paths = [folder / f"drawn/{number}.webp" for number in range(DRAWN)]
    for path in paths:
        smooth = rng.integers(0, 256, (REPEATS, 6, 6, 3)).repeat(16, 1).repeat(16, 2)
        pictures = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
        storage.write_bytes(path, thumbnails.encode_strip(pictures, PIXELS))
    return paths


def _link(strips: list[Path], folder: Path, ids: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, strip in zip(ids, strips, strict=True):
        os.link(strip, folder / thumbnails.name_strip(number))


def _long_form(ids: np.ndarray, metric: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ids.repeat(REPEATS),
            "repeat": np.tile(np.arange(REPEATS), len(ids)),
            "metric": metric,
            "value": values.ravel(),
        }
    )
