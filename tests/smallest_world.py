"""The smallest world that has every kind of job worth disturbing, and all that it ends with."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from workflow import CORRECTED, MINIATURE, SMALLEST, TINY, World

from neuraldiffuser import contents, exclusion, provenance, storage

OVERLAYS = (CORRECTED, MINIATURE, TINY, SMALLEST)
RESULTS = "results/smallest"
TARGETS = [
    f"{RESULTS}/findings.json",
    f"{RESULTS}/tables/table1.csv",
    f"{RESULTS}/figures/figure6.png",
    f"{RESULTS}/gallery/thumbnails/guided/subj01.json",
]
# What differs between two runs that nobody disturbed.
OF_THE_RUN = {"logs", "slurm_logs", "benchmarks", "rates.json", exclusion.LOCK_FILE}
TOLD_OF_THE_RUN = {"seconds": None, "commit": None, "measured": None}


def everything(world: World) -> dict[str, object]:
    """Everything below a world's results by its path: a digest, or what a sidecar tells."""
    results = world.folder / "results"
    found = {}
    for path in sorted(results.rglob("*")):
        place = path.relative_to(results)
        if path.is_file() and not OF_THE_RUN & set(place.parts):
            found[str(place)] = (
                storage.read_json(path) | TOLD_OF_THE_RUN
                if path.name.endswith(provenance.SIDECAR_SUFFIX)
                else contents.digest(path)
            )
    return found


@dataclass(frozen=True)
class Undisturbed:
    """A finished world that nobody disturbed, all that it holds, and the seconds that it took."""

    world: World
    everything: dict[str, object]
    seconds: float

    def copy_to(self, folder: Path) -> World:
        """The same world elsewhere, to be disturbed."""
        shutil.copytree(self.world.folder, folder)
        return World(folder, overlays=OVERLAYS)
