# The only rules that need a network: they bring NSD and the COCO captions to a local mirror.
# Their outputs are verified by size and digest, so no change of code fetches 300 GB again:
# a constant stands in place of their code_id(...).

from neuraldiffuser.nsd import files as nsd_files

MODELS_TO_FETCH = "|".join(f"{path}(/.+)?" for path in sorted(CONFIG.models.sources))


localrules:
    accept_terms,
    fetch_file,
    fetch_captions,
    fetch_model,
    unpack_captions,


rule accept_terms:
    output:
        record="<data>/terms_accepted.json",
    log:
        "<results>/logs/accept_terms/all.log",
    benchmark:
        "<results>/benchmarks/accept_terms/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    params:
        settings=settings("accept_terms"),
        code=code_id("accept_terms"),
    message:
        "checks that the terms of the data are accepted"
    script:
        "../workflow_scripts/accept_terms.py"


rule fetch_file:
    input:
        get_source,
    output:
        mirrored="<data>/{object}",
    log:
        "<results>/logs/fetch_file/{object}.log",
    benchmark:
        "<results>/benchmarks/fetch_file/{object}.jsonl"
    wildcard_constraints:
        object=r"nsddata(_betas|_stimuli)?/.+",
    retries: 2
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        settings=settings("fetch_file"),
        code="a verified copy depends on no code",
    message:
        "fetches {wildcards.object}"
    script:
        "../workflow_scripts/fetch_file.py"


rule fetch_captions:
    input:
        get_captions_source(),
    output:
        archive=f"<data>/{nsd_files.CAPTIONS_ARCHIVE}",
    log:
        "<results>/logs/fetch_captions/all.log",
    benchmark:
        "<results>/benchmarks/fetch_captions/all.jsonl"
    retries: 2
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        settings=settings("fetch_captions"),
        code="a verified copy depends on no code",
    message:
        "fetches the COCO captions"
    script:
        "../workflow_scripts/fetch_captions.py"


rule unpack_captions:
    input:
        archive=rules.fetch_captions.output.archive,
    output:
        annotations=[f"<data>/{path}" for path in nsd_files.CAPTIONS],
    log:
        "<results>/logs/unpack_captions/all.log",
    benchmark:
        "<results>/benchmarks/unpack_captions/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=settings("unpack_captions"),
        code=code_id("unpack_captions"),
    message:
        "unpacks the COCO captions"
    script:
        "../workflow_scripts/unpack_captions.py"


rule fetch_model:
    input:
        get_terms(),
    output:
        file="<models>/{file}",
    log:
        "<results>/logs/fetch_model/{file}.log",
    benchmark:
        "<results>/benchmarks/fetch_model/{file}.jsonl"
    wildcard_constraints:
        file=MODELS_TO_FETCH,
    retries: 2
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        settings=settings("fetch_model"),
        code="a verified copy depends on no code",
    message:
        "fetches the model file {wildcards.file}"
    script:
        "../workflow_scripts/fetch_model.py"
