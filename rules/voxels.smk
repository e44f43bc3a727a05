# From betas, masks and design to voxels/{subject}.h5, and what these files hold.

from neuraldiffuser.nsd import files as nsd_files


rule prepare_voxels:
    input:
        betas=get_betas,
        nsdgeneral=f"<nsd>/{nsd_files.region_mask('{subject}', name='nsdgeneral')}",
        areas=f"<nsd>/{nsd_files.region_mask('{subject}', name='prf-visualrois')}",
        ncsnr=f"<nsd>/{nsd_files.signal_to_noise('{subject}', version=CONFIG.nsd.betas)}",
        responses=f"<nsd>/{nsd_files.responses('{subject}')}",
        design=f"<nsd>/{nsd_files.DESIGN}",
    output:
        voxels="<results>/voxels/{subject}.h5",
    log:
        "<results>/logs/prepare_voxels/{subject}.log",
    benchmark:
        "<results>/benchmarks/prepare_voxels/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: THREADS
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=settings("prepare_voxels"),
        code=code_id("prepare_voxels"),
    message:
        "{wildcards.subject}: masks and normalises betas and joins them to stimulus ids"
    script:
        "../workflow_scripts/prepare_voxels.py"


rule describe_voxels:
    input:
        voxels=[f"<results>/voxels/{subject}.h5" for subject in CONFIG.everybody],
    output:
        subjects="<results>/voxels/subjects.csv",
        regions="<results>/voxels/data_card.csv",
        trials="<results>/voxels/trials.csv",
    log:
        "<results>/logs/describe_voxels/all.log",
    benchmark:
        "<results>/benchmarks/describe_voxels/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(30),
    params:
        settings=settings("describe_voxels"),
        code=code_id("describe_voxels"),
    message:
        "describes the voxels of all subjects: areas, noise ceilings, trials"
    script:
        "../workflow_scripts/describe_voxels.py"


rule draw_regions:
    input:
        voxels="<results>/voxels/{subject}.h5",
        mean=get_mean_volume,
    output:
        image=report(
            "<results>/figures/regions_{subject}.png",
            caption="../report/regions.rst",
            category="Figures",
            labels={"figure": "regions of {subject}"},
        ),
        data="<results>/figures/regions_{subject}.csv",
        words="<results>/figures/regions_{subject}.json",
    log:
        "<results>/logs/draw_regions/{subject}.log",
    benchmark:
        "<results>/benchmarks/draw_regions/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(20),
    params:
        settings=settings("draw_regions"),
        code=code_id("draw_regions"),
    message:
        "{wildcards.subject}: draws regions and noise ceilings on the mean volume"
    script:
        "../workflow_scripts/draw_regions.py"
