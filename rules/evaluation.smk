# How good reconstructions, decoded embeddings and retrieval are, and what follows from it.

PROJECTED_TARGETS = ["clip_text", *GUIDANCE_TARGETS]
DECODED_TARGETS = ["vae_latent", *PROJECTED_TARGETS]


rule evaluate_reconstructions:
    input:
        reconstructions=get_shards_to_evaluate,
        selection=get_selection,
        stimuli="<nsd>/nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5",
        models=get_judging_receipts(),
    output:
        images="<results>/evaluation/{variant}/{subject}/images.csv",
        sets="<results>/evaluation/{variant}/{subject}/sets.csv",
    log:
        "<results>/logs/evaluate_reconstructions/{variant}/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_reconstructions/{variant}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        mem_mb=growing(JUDGING_MEMORY),
        runtime=growing(120),
        gpu=GPUS,
    params:
        settings=settings("evaluate_reconstructions"),
        code=code_id("evaluate_reconstructions"),
        places=get_network_places,
    message:
        "{wildcards.variant}, {wildcards.subject}: compares reconstructions with the stimuli"
    script:
        "../workflow_scripts/evaluate_reconstructions.py"


rule evaluate_decoding:
    input:
        unpack(get_decoded(DECODED_TARGETS)),
        targets=collect("<results>/targets/{target}.h5", target=DECODED_TARGETS),
        voxels="<results>/voxels/{subject}.h5",
    output:
        decoding="<results>/evaluation/decoding/{subject}.csv",
        images="<results>/evaluation/decoding/{subject}_images.csv",
    log:
        "<results>/logs/evaluate_decoding/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_decoding/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("evaluate_decoding"),
        code=code_id("evaluate_decoding"),
    message:
        "{wildcards.subject}: measures decoded embeddings beside the controls' and the mean feature"
    script:
        "../workflow_scripts/evaluate_decoding.py"


rule evaluate_retrieval:
    input:
        unpack(get_decoded(PROJECTED_TARGETS)),
        targets=collect("<results>/targets/{target}.h5", target=PROJECTED_TARGETS),
        voxels="<results>/voxels/{subject}.h5",
    output:
        retrieval="<results>/evaluation/retrieval/{subject}.csv",
        images="<results>/evaluation/retrieval/{subject}_images.csv",
    log:
        "<results>/logs/evaluate_retrieval/{subject}.log",
    benchmark:
        "<results>/benchmarks/evaluate_retrieval/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("evaluate_retrieval"),
        code=code_id("evaluate_retrieval"),
    message:
        "{wildcards.subject}: retrieves images from brains and brains from images"
    script:
        "../workflow_scripts/evaluate_retrieval.py"


rule compare_predictors:
    input:
        decoding=collect(
            "<results>/evaluation/decoding/{subject}_images.csv",
            subject=CONFIG.subjects,
        ),
        retrieval=collect(
            "<results>/evaluation/retrieval/{subject}_images.csv",
            subject=CONFIG.subjects,
        ),
    output:
        predictors="<results>/evaluation/predictors.csv",
        comparisons="<results>/evaluation/predictor_comparisons.csv",
    log:
        "<results>/logs/compare_predictors/all.log",
    benchmark:
        "<results>/benchmarks/compare_predictors/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("compare_predictors"),
        code=code_id("compare_predictors"),
    message:
        "compares the decoders with their controls, image by image"
    script:
        "../workflow_scripts/compare_predictors.py"


rule summarise_evaluation:
    input:
        images=get_evaluations("images.csv"),
        sets=get_evaluations("sets.csv"),
        brain=get_brain_evaluations,
    output:
        summary="<results>/evaluation/summary.csv",
        aggregations="<results>/evaluation/aggregations.csv",
        comparisons="<results>/evaluation/comparisons.csv",
        gains="<results>/evaluation/gains.csv",
    log:
        "<results>/logs/summarise_evaluation/all.log",
    benchmark:
        "<results>/benchmarks/summarise_evaluation/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("summarise_evaluation"),
        code=code_id("summarise_evaluation"),
    message:
        "computes means, intervals and differences between variants"
    script:
        "../workflow_scripts/summarise_evaluation.py"


rule compare_sweep:
    input:
        images=get_evaluations("images.csv"),
    output:
        sweep="<results>/evaluation/sweep.csv",
    log:
        "<results>/logs/compare_sweep/all.log",
    benchmark:
        "<results>/benchmarks/compare_sweep/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        settings=settings("compare_sweep"),
        code=code_id("compare_sweep"),
    message:
        "compares variants along the sweep of guidance scale and strength"
    script:
        "../workflow_scripts/compare_sweep.py"


rule derive_findings:
    input:
        comparisons="<results>/evaluation/comparisons.csv",
        gains="<results>/evaluation/gains.csv",
        sweep="<results>/evaluation/sweep.csv",
        summary="<results>/evaluation/summary.csv",
        predictors="<results>/evaluation/predictor_comparisons.csv",
        brain="<results>/evaluation/brain_comparisons.csv",
        accuracy=collect(
            "<results>/encoders/{subject}_accuracy.csv", subject=CONFIG.subjects
        ),
        retrieval=collect(
            "<results>/evaluation/retrieval/{subject}.csv", subject=CONFIG.subjects
        ),
        decoding=collect(
            "<results>/evaluation/decoding/{subject}.csv", subject=CONFIG.subjects
        ),
        voxels=collect("<results>/voxels/{subject}.h5", subject=CONFIG.subjects),
    output:
        findings="<results>/findings.json",
    log:
        "<results>/logs/derive_findings/all.log",
    benchmark:
        "<results>/benchmarks/derive_findings/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        settings=settings("derive_findings"),
        code=code_id("derive_findings"),
    message:
        "judges every claim by its numbers"
    script:
        "../workflow_scripts/derive_findings.py"
