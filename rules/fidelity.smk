# What each switch of docs/fidelity.md does: this experiment once more per switch, one key changed.
# On one machine only, since every job runs the workflow itself.

from neuraldiffuser.config.fidelity import choose_within, expected_seconds, list_to_try

MEASURABLE = list_to_try(CONFIG)
TRIED = choose_within(MEASURABLE, hours=CONFIG.fidelity.hours)


wildcard_constraints:
    switch=match_any(MEASURABLE),


localrules:
    fidelity,
    measure_switch,
    collect_fidelity,


rule fidelity:
    input:
        "<results>/fidelity/effects.json",


rule measure_switch:
    input:
        get_values_for_switch,
    output:
        effect="<results>/fidelity/{switch}.json",
    log:
        "<results>/logs/measure_switch/{switch}.log",
    benchmark:
        "<results>/benchmarks/measure_switch/{switch}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    # Asked for when there is such a job: a cluster's runs have no total of cores.
    threads: lambda wildcards: workflow.cores
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("measure_switch"),
        code=code_id("measure_switch"),
        # Whatever changes the experiment; the budget does not, nor where and how it runs.
        experiment=CONFIG.model_dump(
            mode="json", exclude={"fidelity", "report", "runtime", "paths"}
        ),
        configuration=untracked(CONFIG.model_dump_json(exclude={"fidelity", "report"})),
        repository=untracked(workflow.basedir),
    message:
        "runs this experiment with another value of {wildcards.switch}"
    script:
        "../workflow_scripts/measure_switch.py"


rule collect_fidelity:
    input:
        effects=collect("<results>/fidelity/{switch}.json", switch=TRIED),
    output:
        "<results>/fidelity/effects.json",
    log:
        "<results>/logs/collect_fidelity/all.log",
    benchmark:
        "<results>/benchmarks/collect_fidelity/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=settings("collect_fidelity"),
        code=code_id("collect_fidelity"),
        left_out=[key for key in MEASURABLE if key not in TRIED],
    message:
        f"collects what {len(TRIED)} switches do, expected to take "
        f"{sum(map(expected_seconds, ('', *TRIED))) / 60:.0f} of {60 * CONFIG.fidelity.hours:.0f} minutes"
    script:
        "../workflow_scripts/collect_fidelity.py"
