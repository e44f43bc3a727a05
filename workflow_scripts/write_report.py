"""Writes the report that a person opens: findings, figures, tables, and how all of it was made.

In: figures, tables, the gallery, calibrations, receipts of the models, findings, effects of
switches, data card, pictures of regions, and the page's template, style and script. Out: one HTML
file that needs no other file and no network; it links to the gallery and the files of tables and
figures beside it.
"""

from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.description import Description
from neuraldiffuser.reporting.report import Evidence, render_report


def write_report(
    *,
    evidence: Evidence,
    path_to_template: Path,
    path_to_style: Path,
    path_to_program: Path,
    path_to_report: Path,
    description: Description,
) -> None:
    """Writes the report as one HTML file."""
    page = render_report(
        evidence,
        description=description,
        template=path_to_template,
        style=path_to_style,
        program=path_to_program,
    )
    storage.write_bytes(path_to_report, page.encode())
    runtime.logger.info("the report stands in %s", path_to_report)


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        write_report(
            evidence=Evidence(
                figures=snakemake.input.figures,  # noqa: F821
                tables=snakemake.input.tables,  # noqa: F821
                calibrations=snakemake.input.calibrations,  # noqa: F821
                models=snakemake.input.models,  # noqa: F821
                findings=snakemake.input.findings,  # noqa: F821
                gallery=snakemake.input.gallery,  # noqa: F821
                effects=snakemake.input.effects,  # noqa: F821
                region_pictures=snakemake.input.region_pictures,  # noqa: F821
                data_card={
                    name: snakemake.input[name]  # noqa: F821
                    for name in ("subjects", "regions", "trials")
                },
            ),
            path_to_template=snakemake.input.template,  # noqa: F821
            path_to_style=snakemake.input.style,  # noqa: F821
            path_to_program=snakemake.input.program,  # noqa: F821
            path_to_report=snakemake.output.report,  # noqa: F821
            **settings,
        )
