# Pretrained models: brought here from the sources that models.zoo names, and checked file by file
# before anything reads them. A file's receipt tells its size and digest. What reads a file waits for
# its receipt and reruns with it, so neither another folder nor a digest that is pinned later reruns
# an extraction. Where a file lay and how it looked are kept beside the receipt, not in it.

FETCHED_MODELS = [name for name, model in CONFIG.models.zoo.items() if model.is_fetched]
FETCHED_FILES = {
    file for name in FETCHED_MODELS for file in CONFIG.models.zoo[name].files
}


localrules:
    fetch_model,
    check_model,
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
        mem_mb=growing(1000),
        runtime=growing(240),
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
        file=get_file_to_check,
    output:
        receipt="<results>/models/{model}/{file}.json",
        seen="<results>/models/{model}/{file}.seen",
    log:
        "<results>/logs/check_model/{model}/{file}.log",
    benchmark:
        "<results>/benchmarks/check_model/{model}/{file}.jsonl"
    wildcard_constraints:
        model=match_any(CONFIG.models.zoo),
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        pin=get_pin,
        place=get_place,
        package=get_package,
        lost=get_lost_file,
        key="models.zoo.{model}.files.{file}",
        settings=settings("check_model"),
        code=code_id("check_model"),
    message:
        "checks {wildcards.file} of {wildcards.model}"
    script:
        "../workflow_scripts/check_model.py"


# What a machine without a network needs from one that has it: `snakemake fetch_inputs`.
rule fetch_inputs:
    input:
        get_inputs_from_elsewhere,
