# The gallery: contact sheets, and a page with every test image beside its reconstructions.


rule make_gallery:
    input:
        stimuli=ARTEFACTS["stimuli"],
        reconstructions=get_shards_to_evaluate,
        selection=get_selection,
    output:
        sheet=report(
            "<results>/gallery/{variant}/{subject}.png",
            caption="../report/gallery.rst",
            category="Gallery",
            labels={"variant": "{variant}", "subject": "{subject}"},
        ),
    log:
        "<results>/logs/make_gallery/{variant}/{subject}.log",
    benchmark:
        "<results>/benchmarks/make_gallery/{variant}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        settings=settings("make_gallery"),
        code=code_id("make_gallery"),
    message:
        "{wildcards.variant}, {wildcards.subject}: lays out a contact sheet"
    script:
        "../workflow_scripts/make_gallery.py"


rule make_thumbnails:
    input:
        reconstructions=get_shards_to_evaluate,
        selection=get_selection,
    output:
        folder=directory("<results>/gallery/thumbnails/{variant}/{subject}"),
        contents="<results>/gallery/thumbnails/{variant}/{subject}.json",
    log:
        "<results>/logs/make_thumbnails/{variant}/{subject}.log",
    benchmark:
        "<results>/benchmarks/make_thumbnails/{variant}/{subject}.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=settings("make_thumbnails"),
        code=code_id("make_thumbnails"),
    message:
        "{wildcards.variant}, {wildcards.subject}: makes small pictures for the gallery"
    script:
        "../workflow_scripts/make_thumbnails.py"


rule make_stimulus_thumbnails:
    input:
        stimuli=ARTEFACTS["stimuli"],
        contents=get_thumbnails(),
    output:
        folder=directory("<results>/gallery/thumbnails/stimulus"),
        contents="<results>/gallery/thumbnails/stimulus.json",
    log:
        "<results>/logs/make_stimulus_thumbnails/all.log",
    benchmark:
        "<results>/benchmarks/make_stimulus_thumbnails/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=settings("make_stimulus_thumbnails"),
        code=code_id("make_stimulus_thumbnails"),
    message:
        "makes small pictures of the stimuli for the gallery"
    script:
        "../workflow_scripts/make_stimulus_thumbnails.py"


rule write_gallery:
    input:
        thumbnails=get_thumbnails(),
        folders=[path.removesuffix(".json") for path in get_thumbnails()],
        stimuli=multiext("<results>/gallery/thumbnails/stimulus", "", ".json"),
        images=get_gallery_evaluations("images.csv"),
        brains=get_gallery_evaluations("brain.csv"),
        template=f"{PAGE}/gallery.html.jinja",
        style=f"{PAGE}/gallery.css",
        program=f"{PAGE}/gallery.js",
    output:
        page="<results>/gallery/index.html",
        values=get_gallery_values(),
    log:
        "<results>/logs/write_gallery/all.log",
    benchmark:
        "<results>/benchmarks/write_gallery/all.jsonl"
    conda:
        "../envs/neuraldiffuser.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(20),
    params:
        settings=settings("write_gallery"),
        code=code_id("write_gallery"),
    message:
        "writes the gallery"
    script:
        "../workflow_scripts/write_gallery.py"
