"""Writes the gallery that a person opens: every test image beside its reconstructions.

In: what thumbnails there are, values per image and repeat, and the page's template, style and
script. Out: one HTML page, and the values of each variant and subject as a script that the page
loads once they are looked at. The folder needs no other file and no network.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.evaluation import Conventions
from neuraldiffuser.config.report import Presentation
from neuraldiffuser.evaluation.metrics import choose_names
from neuraldiffuser.reporting.gallery_page import Page, describe_gallery, read_values, write_script
from neuraldiffuser.reporting.sources import Sources


def write_gallery(
    *,
    sources: Sources,
    page: Page,
    path_to_page: Path,
    paths_to_values: list[Path],
    experiment: Presentation,
    conventions: Conventions,
) -> None:
    """Writes a script of values for each variant and subject, then the page that loads them."""
    names = choose_names(experiment.judges, conventions)
    measured = set()
    for path in map(Path, paths_to_values):
        who = {"variant": path.parent.name, "subject": path.stem}
        values = read_values(sources, experiment, names, **who)
        measured.update(values["metrics"])
        storage.write_bytes(path, write_script(values, **who).encode())
    gallery = describe_gallery(sources, experiment, names, measured=measured)
    storage.write_bytes(path_to_page, page.render(gallery).encode())


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        write_gallery(
            sources=Sources(
                {
                    kind: snakemake.input[kind]  # noqa: F821
                    for kind in ("thumbnails", "images", "brains")
                }
            ),
            page=Page(
                template=snakemake.input.template,  # noqa: F821
                style=snakemake.input.style,  # noqa: F821
                program=snakemake.input.program,  # noqa: F821
            ),
            path_to_page=snakemake.output.page,  # noqa: F821
            paths_to_values=snakemake.output.values,  # noqa: F821
            **settings,
        )
