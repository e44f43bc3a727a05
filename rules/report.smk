# What people read: tables, figures, the report.

from neuraldiffuser.reporting.catalogue import FIGURES, TABLES

PAPER_TABLES = [
    "table1_comparison",
    "best_of_five",
    "table2_guidance",
    "table3_subjects",
    "table4_brain_encoding_guidance",
    "text_only_retrieval",
    "model_cost",
    "costs",
]
PAPER = f"{workflow.basedir}/resources/paper_tables"
PAGE = f"{workflow.basedir}/workflow_scripts/neuraldiffuser/reporting"


# What each kind of artefact named in the catalogue is.
ARTEFACTS = {
    "summary": "<results>/evaluation/summary.csv",
    "aggregations": "<results>/evaluation/aggregations.csv",
    "comparisons": "<results>/evaluation/comparisons.csv",
    "sweep": "<results>/evaluation/sweep.csv",
    "decoding": collect(
        "<results>/evaluation/decoding/{subject}.csv", subject=CONFIG.subjects
    ),
    "retrieval": collect(
        "<results>/evaluation/retrieval/{subject}.csv", subject=CONFIG.subjects
    ),
    "predictors": "<results>/evaluation/predictors.csv",
    "predictor_comparisons": "<results>/evaluation/predictor_comparisons.csv",
    "images": get_evaluations("images.csv"),
    "reconstructions": get_shards(),
    "selections": get_selections(),
    "stimuli": "<nsd>/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
    "rivals": get_rival_images(),
    "voxels": collect("<results>/voxels/{subject}.h5", subject=CONFIG.everybody),
    "encoders": collect(
        "<results>/encoders/{subject}_accuracy.csv", subject=CONFIG.subjects
    ),
    "curves": collect(
        "<results>/decoders/{target}/{subject}/{stage}_curve.csv",
        target=DECODED_TARGETS,
        subject=CONFIG.subjects,
        stage=["pretrained", "finetuned"],
    ),
    "control_curves": get_control_curves(PROJECTED_TARGETS),
    "decoders": collect(
        "<results>/decoders/{target}/{subject}/{stage}.safetensors",
        target=DECODED_TARGETS,
        subject=CONFIG.subjects[0],
        stage=["pretrained", "finetuned"],
    ),
}


wildcard_constraints:
    table="|".join(TABLES),
    figure="|".join(FIGURES),


rule make_table:
    input:
        unpack(get_table_sources),
        paper=collect(f"{PAPER}/{{name}}.csv", name=PAPER_TABLES),
    output:
        entries=report(
            "<results>/tables/{table}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown="<results>/tables/{table}.md",
        latex="<results>/tables/{table}.tex",
    log:
        "<results>/logs/make_table/{table}.log",
    benchmark:
        "<results>/benchmarks/make_table/{table}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=settings("make_table"),
        code=code_id("make_table"),
    message:
        "lays out {wildcards.table}"
    script:
        "../workflow_scripts/make_table.py"


rule make_figure:
    input:
        unpack(get_figure_sources),
    output:
        image=report(
            "<results>/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        data="<results>/figures/{figure}.csv",
        words="<results>/figures/{figure}.json",
    log:
        "<results>/logs/make_figure/{figure}.log",
    benchmark:
        "<results>/benchmarks/make_figure/{figure}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        settings=settings("make_figure"),
        code=code_id("make_figure"),
    message:
        "draws {wildcards.figure}"
    script:
        "../workflow_scripts/make_figure.py"


# Each table and figure is also a target of its own: `snakemake table2`.
for target, made in [
    *[(name, f"<results>/tables/{name}.csv") for name in TABLES],
    *[(name, f"<results>/figures/{name}.png") for name in FIGURES],
]:

    rule:
        name:
            target
        input:
            made,
        localrule: True


rule write_report:
    input:
        figures=collect("<results>/figures/{figure}.png", figure=FIGURES),
        words=collect("<results>/figures/{figure}.json", figure=FIGURES),
        plotted=collect("<results>/figures/{figure}.csv", figure=FIGURES),
        tables=collect("<results>/tables/{table}.csv", table=TABLES),
        gallery="<results>/gallery/index.html",
        galleries=[
            f"<results>/gallery/{variant}/{subject}.png"
            for variant in CONFIG.reconstruction.run
            for subject in get_variant_subjects(variant)
        ],
        calibrations=get_calibrations(),
        findings="<results>/findings.json",
        models=get_used_receipts(),
        subjects="<results>/voxels/subjects.csv",
        regions="<results>/voxels/data_card.csv",
        trials="<results>/voxels/trials.csv",
        region_pictures=collect(
            "<results>/figures/regions_{subject}.png", subject=CONFIG.everybody
        ),
        region_words=collect(
            "<results>/figures/regions_{subject}.json", subject=CONFIG.everybody
        ),
        effects=f"{workflow.basedir}/resources/fidelity_effects.json",
        template=f"{PAGE}/report.html.jinja",
        style=f"{PAGE}/report.css",
        program=f"{PAGE}/report.js",
    output:
        report=report(
            "<results>/report.html",
            caption="../report/report.rst",
            category="Report",
            labels={"page": "the whole report"},
        ),
    log:
        "<results>/logs/write_report/all.log",
    benchmark:
        "<results>/benchmarks/write_report/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=settings("write_report"),
        code=code_id("write_report"),
    message:
        "writes the report"
    script:
        "../workflow_scripts/write_report.py"
