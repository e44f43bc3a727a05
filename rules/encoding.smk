# Brain-encoding models: from images to a subject's voxels.

# MB, for 10,000 images and 18,000 voxels: images in the network's size, and responses while they are
# averaged and chosen; features of every voxel, of which a batch keeps 22 bytes each for their
# gradient, unless a GPU holds them (18.5 GB for subj01); libraries.
ENCODER = CONFIG.encoding.network
ENCODER_INPUTS = 10_000 * (3 * ENCODER.image_size**2 + 3 * 4 * 18_000) // 10**6
ENCODER_FEATURES = ENCODER.pass_width + 6 * ENCODER.trunk_width
ENCODER_BATCH = (
    22 * ENCODER_FEATURES * 18_000 * CONFIG.encoding.training.batch_size // 10**6
)
ENCODER_MEMORY = 4000 + ENCODER_INPUTS + (0 if GPUS else ENCODER_BATCH)


rule convert_gnet:
    input:
        models=get_receipts(CONFIG.models.gnet),
    output:
        encoder="<results>/encoders/released_gnet.safetensors",
    log:
        "<results>/logs/convert_gnet/all.log",
    benchmark:
        "<results>/benchmarks/convert_gnet/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        checkpoint=locate_only_file(CONFIG.models.gnet),
        settings=settings("convert_gnet"),
        code=code_id("convert_gnet"),
    message:
        "converts the released GNet to safetensors"
    script:
        "../workflow_scripts/convert_gnet.py"


rule train_encoder:
    input:
        released=get_converted_gnet,
        voxels="<results>/voxels/{subject}.h5",
        stimuli=f"<nsd>/{nsd_files.STIMULI}",
    output:
        encoder="<results>/encoders/{subject}.safetensors",
        accuracy="<results>/encoders/{subject}.h5",
    log:
        "<results>/logs/train_encoder/{subject}.log",
    benchmark:
        "<results>/benchmarks/train_encoder/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        gpu=GPUS,
        mem_mb=growing(ENCODER_MEMORY),
        runtime=growing(480),
    params:
        settings=settings("train_encoder"),
        code=code_id("train_encoder"),
    message:
        "{wildcards.subject}: makes the brain-encoding model"
    script:
        "../workflow_scripts/train_encoder.py"
