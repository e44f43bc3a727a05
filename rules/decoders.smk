# Decoders from voxels to targets, and the embeddings they decode.

from neuraldiffuser.nsd import files as nsd_files


rule pretrain_decoder:
    input:
        voxels=get_other_voxels,
        target="<results>/targets/{target}.h5",
        teacher=get_teacher,
        models=get_teacher_receipts,
    output:
        decoder="<results>/decoders/{target}/{subject}/pretrained.safetensors",
        curve="<results>/decoders/{target}/{subject}/pretrained_curve.csv",
    log:
        "<results>/logs/pretrain_decoder/{target}/{subject}.log",
    benchmark:
        "<results>/benchmarks/pretrain_decoder/{target}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: DECODER_THREADS * DECODER_PROCESSES
    resources:
        gpu=GPUS * DECODER_PROCESSES,
        processes=DECODER_PROCESSES,
        nodes=1,
        mem_mb=growing(get_training_memory),
        runtime=CONFIG.runtime.decoder_minutes,
    params:
        teacher=get_teaching_model,
        settings=settings("pretrain_decoder"),
        code=code_id("pretrain_decoder"),
    message:
        "{wildcards.target}: pretrains the decoder for {wildcards.subject} on the other subjects"
    script:
        "../workflow_scripts/pretrain_decoder.py"


rule finetune_decoder:
    input:
        voxels="<results>/voxels/{subject}.h5",
        target="<results>/targets/{target}.h5",
        pretrained="<results>/decoders/{target}/{subject}/pretrained.safetensors",
        teacher=get_teacher,
        models=get_teacher_receipts,
    output:
        decoder="<results>/decoders/{target}/{subject}/finetuned.safetensors",
        curve="<results>/decoders/{target}/{subject}/finetuned_curve.csv",
    log:
        "<results>/logs/finetune_decoder/{target}/{subject}.log",
    benchmark:
        "<results>/benchmarks/finetune_decoder/{target}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: DECODER_THREADS * DECODER_PROCESSES
    resources:
        gpu=GPUS * DECODER_PROCESSES,
        processes=DECODER_PROCESSES,
        nodes=1,
        mem_mb=growing(get_training_memory),
        runtime=CONFIG.runtime.decoder_minutes,
    params:
        teacher=get_teaching_model,
        settings=settings("finetune_decoder"),
        code=code_id("finetune_decoder"),
    message:
        "{wildcards.target}: finetunes the decoder of {wildcards.subject}"
    script:
        "../workflow_scripts/finetune_decoder.py"


rule train_from_scratch:
    input:
        voxels="<results>/voxels/{subject}.h5",
        target="<results>/targets/{target}.h5",
    output:
        decoder="<results>/controls/scratch/{target}/{subject}.safetensors",
        curve="<results>/controls/scratch/{target}/{subject}_curve.csv",
    log:
        "<results>/logs/train_from_scratch/{target}/{subject}.log",
    benchmark:
        "<results>/benchmarks/train_from_scratch/{target}/{subject}.jsonl"
    wildcard_constraints:
        subject=r"subj\d\d",
        target=r"clip_text|clip_image_\d\d",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: DECODER_THREADS * DECODER_PROCESSES
    resources:
        gpu=GPUS * DECODER_PROCESSES,
        processes=DECODER_PROCESSES,
        nodes=1,
        mem_mb=growing(get_training_memory),
        runtime=CONFIG.runtime.decoder_minutes,
    params:
        settings=settings("train_from_scratch"),
        code=code_id("train_from_scratch"),
    message:
        "{wildcards.target}: trains a decoder of {wildcards.subject} that was never pretrained"
    script:
        "../workflow_scripts/train_from_scratch.py"


rule predict_embeddings:
    input:
        voxels="<results>/voxels/{subject}.h5",
        target="<results>/targets/{target}.h5",
        decoder=get_decoder,
    output:
        embeddings="<results>/{place}/{target}/{subject}.h5",
    log:
        "<results>/logs/predict_embeddings/{place}/{target}/{subject}.log",
    benchmark:
        "<results>/benchmarks/predict_embeddings/{place}/{target}/{subject}.jsonl"
    wildcard_constraints:
        place=match_any(DECODERS),
        subject=r"subj\d\d",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: DECODER_THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(24000 if GPUS else 2500),
        runtime=growing(240),
    params:
        settings=settings("predict_embeddings"),
        code=code_id("predict_embeddings"),
    message:
        "{wildcards.target}, {wildcards.subject}: decodes test and validation images "
        "into {wildcards.place}"
    script:
        "../workflow_scripts/predict_embeddings.py"


rule decode_by_ridge:
    input:
        voxels="<results>/voxels/{subject}.h5",
        target="<results>/targets/{target}.h5",
    output:
        embeddings="<results>/controls/ridge/{target}/{subject}.h5",
    log:
        "<results>/logs/decode_by_ridge/{target}/{subject}.log",
    benchmark:
        "<results>/benchmarks/decode_by_ridge/{target}/{subject}.jsonl"
    wildcard_constraints:
        subject=r"subj\d\d",
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        gpu=GPUS,
        mem_mb=growing(16000),
        runtime=growing(240),
    params:
        settings=settings("decode_by_ridge"),
        code=code_id("decode_by_ridge"),
    message:
        "{wildcards.target}, {wildcards.subject}: decodes the same images by ridge regression"
    script:
        "../workflow_scripts/decode_by_ridge.py"


rule collect_ground_truth:
    input:
        voxels=collect("<results>/voxels/{subject}.h5", subject=CONFIG.subjects),
        target="<results>/targets/{target}.h5",
    output:
        embeddings="<results>/embeddings/{target}/stimulus.h5",
    log:
        "<results>/logs/collect_ground_truth/{target}.log",
    benchmark:
        "<results>/benchmarks/collect_ground_truth/{target}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        settings=settings("collect_ground_truth"),
        code=code_id("collect_ground_truth"),
    message:
        "{wildcards.target}: cuts the true embeddings of test and validation images out"
    script:
        "../workflow_scripts/collect_ground_truth.py"
