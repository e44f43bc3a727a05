# They bring NSD and the COCO captions to a local mirror; beside fetch_model the only rules that need
# a network.
# Their outputs are verified on arrival, so no change of code fetches them again: a constant stands
# in place of their code_id(...).

from neuraldiffuser.nsd import files as nsd_files

SESSION = f"{nsd_files.betas_folder('{subject}', version='{version}')}/betas_session{{session}}"


localrules:
    fetch_file,
    fetch_session,
    fetch_region_betas,
    fetch_renormalised_betas,
    fetch_captions,
    unpack_captions,


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
        object=r"nsddata(_betas|_stimuli)?/(?!.*/betas_session).+",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
    params:
        settings=settings("fetch_file"),
        code="a verified copy depends on no code",
    message:
        "fetches {wildcards.object}"
    script:
        "../workflow_scripts/fetch_file.py"


rule fetch_session:
    input:
        get_session_source,
    output:
        betas=f"<data>/{SESSION}.{{format}}",
    log:
        "<results>/logs/fetch_session/{subject}/{version}/{session}.{format}.log",
    benchmark:
        "<results>/benchmarks/fetch_session/{subject}/{version}/{session}.{format}.jsonl"
    wildcard_constraints:
        format=r"hdf5|nii\.gz",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
    params:
        name=get_session,
        settings=settings("fetch_session"),
        code="a verified copy depends on no code",
    message:
        "{wildcards.subject}: fetches session {wildcards.session}"
    script:
        "../workflow_scripts/fetch_session.py"


rule fetch_region_betas:
    input:
        get_session_source,
        nsdgeneral=f"<nsd>/{nsd_files.region_mask('{subject}', name='nsdgeneral')}",
    output:
        betas=f"<data>/{SESSION}.{nsd_files.REGION_FORMAT}",
    log:
        "<results>/logs/fetch_region_betas/{subject}/{version}/{session}.log",
    benchmark:
        "<results>/benchmarks/fetch_region_betas/{subject}/{version}/{session}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
    params:
        name=get_session,
        settings=settings("fetch_region_betas"),
        code="a verified copy depends on no code",
    message:
        "{wildcards.subject}: fetches the nsdgeneral voxels of session {wildcards.session}"
    script:
        "../workflow_scripts/fetch_region_betas.py"


rule fetch_renormalised_betas:
    output:
        betas=f"<data>/{nsd_files.renormalised_betas('{subject}')}",
    log:
        "<results>/logs/fetch_renormalised_betas/{subject}.log",
    benchmark:
        "<results>/benchmarks/fetch_renormalised_betas/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(240),
    params:
        settings=settings("fetch_renormalised_betas"),
        code="a verified copy depends on no code",
    message:
        "{wildcards.subject}: fetches MindEye2's renormalised betas"
    script:
        "../workflow_scripts/fetch_renormalised_betas.py"


rule fetch_captions:
    input:
        get_captions_source(),
    output:
        archive=f"<data>/{nsd_files.CAPTIONS_ARCHIVE}",
    log:
        "<results>/logs/fetch_captions/all.log",
    benchmark:
        "<results>/benchmarks/fetch_captions/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
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
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings=settings("unpack_captions"),
        code=code_id("unpack_captions"),
    message:
        "unpacks the COCO captions"
    script:
        "../workflow_scripts/unpack_captions.py"
