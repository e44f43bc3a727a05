# Pretrained models: brought here from the sources that models.zoo names, and checked before anything
# reads them. A receipt tells what a model's files are. Rules that read weights wait for it, but its
# date does not count for them: a pin or a licence that is written down later reruns no extraction.

FETCHED_MODELS = [
    name for name, model in CONFIG.models.zoo.items() if model.is_fetched
]
FETCHED_FILES = {
    file for name in FETCHED_MODELS for file in CONFIG.models.zoo[name].files
}


localrules:
    fetch_model,
    fetch_inputs,


rule fetch_model:
    output:
        file="<models>/{model}/{file}",
    log:
        "<results>/logs/fetch_model/{model}/{file}.log",
    benchmark:
        "<results>/benchmarks/fetch_model/{model}/{file}.jsonl"
    wildcard_constraints:
        model=match_any(FETCHED_MODELS),
        file=match_any(FETCHED_FILES),
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        pin=get_pin,
        settings=settings("fetch_model"),
        code="a verified copy depends on no code",
    message:
        "fetches {wildcards.file} of {wildcards.model}"
    script:
        "../workflow_scripts/fetch_model.py"


rule check_model:
    input:
        files=get_files_to_check,
    output:
        receipt="<results>/models/{model}.json",
    log:
        "<results>/logs/check_model/{model}.log",
    benchmark:
        "<results>/benchmarks/check_model/{model}.jsonl"
    wildcard_constraints:
        model=match_any(CONFIG.models.zoo),
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    params:
        place=lambda wildcards: get_model_place(wildcards.model),
        settings=settings("check_model"),
        code=code_id("check_model"),
    message:
        "checks the files of {wildcards.model}"
    script:
        "../workflow_scripts/check_model.py"


# What a machine without a network needs from one that has it: `snakemake fetch_inputs`.
rule fetch_inputs:
    input:
        get_inputs_from_elsewhere,
