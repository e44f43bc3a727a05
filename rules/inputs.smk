# What the rules wait for: input functions, stage by stage in the order of the includes. They stand
# apart from the rules so that `snakemake --lint` passes.

import functools
import re
from pathlib import Path

from neuraldiffuser.config.fidelity import list_variants
from neuraldiffuser.config.guidance import VOXELS, code_of
from neuraldiffuser.config.models import CLIP_WEIGHTS, TEXT_WEIGHTS, WEIGHTS
from neuraldiffuser.config.reconstruction import STIMULUS, name_maker
from neuraldiffuser.errors import DataError, TermsError
from neuraldiffuser.models import pins, presence
from neuraldiffuser.nsd import files as nsd_files
from neuraldiffuser.nsd.terms import require_terms

DIFFUSION_PARTS = ("scheduler/", "tokenizer/", "text_encoder/", "unet/", "vae/")

# --- everywhere ---


def match_any(names):
    """A pattern that matches these names alone."""
    return "|".join(re.escape(name) for name in sorted(names)) or r"(?!)"


# --- mini ---


def is_generated():
    """Whether the experiment reads the bucket that the workflow generates."""
    return CONFIG.nsd.bucket == CONFIG.mini.bucket


def get_generated_files():
    """Every file of the generated bucket; none where another one is used."""
    sessions = CONFIG.nsd.sessions
    names = nsd_files.generated_objects(
        CONFIG.everybody, sessions=sessions, version=CONFIG.nsd.betas
    )
    return [f"{CONFIG.mini.bucket}/{name}" for name in names]


# --- data ---


# No file stands for the acceptance: accepting, or withdrawing it, must not fetch anything anew.
def refuse_unaccepted_terms():
    """Refuses to start where NSD would be fetched without its terms being accepted."""
    try:
        require_terms(CONFIG.nsd, subjects=CONFIG.everybody, data=CONFIG.paths.data)
    except TermsError as error:
        raise WorkflowError(str(error)) from None


def get_object(name):
    """What the fetching of an object waits for: the generated bucket, or nothing."""
    return f"{CONFIG.mini.bucket}/{name}" if is_generated() else []


def get_source(wildcards):
    """What the fetching of a file waits for."""
    return get_object(wildcards.object)


def get_session(wildcards):
    """Path of a session inside the bucket, in the format asked for."""
    return nsd_files.session_betas(
        wildcards.subject,
        version=wildcards.version,
        session=int(wildcards.session),
        file_format=wildcards.get("format", "hdf5"),
    )


def get_session_source(wildcards):
    """What the fetching of a session, or of its nsdgeneral voxels, waits for."""
    return get_object(get_session(wildcards))


def get_captions_source():
    """The archive where the workflow generates it, or nothing."""
    generated = f"{CONFIG.mini.bucket}/{nsd_files.CAPTIONS_ARCHIVE}"
    return generated if CONFIG.nsd.captions_url == generated else []


# --- models ---


def list_model_files(name, *parts):
    """The files of a model by their path in its folder: all, or those of some subfolders."""
    files = sorted(CONFIG.models.zoo[name].files)
    return [file for file in files if not parts or file.startswith(parts)]


def get_file_place(name, file):
    """Where a file of a model lies, also inside a package."""
    return f"{presence.name_place(CONFIG, name)}/{file}"


def locate(name, file):
    """The same as a parameter."""
    return untracked(get_file_place(name, file))


def get_receipts(name, *parts):
    """What these files turned out to be, which is why their readers rerun, wherever they lie.

    A file that has to be fetched again is checked anew, but no news to its readers; should it prove
    to be another one, they rerun with the next run.
    """
    receipts = []
    for file in list_model_files(name, *parts):
        receipt = f"<results>/models/{name}/{file}.json"
        receipts.append(ancient(receipt) if is_lost(name, file) else receipt)
    return receipts


# The same for all the thousands of jobs that a graph is built of.
@functools.cache
def is_lost(name, file):
    """Whether a file that was checked once has to be fetched again."""
    was_checked = get_path_of_receipt(name, file).is_file()
    is_there = Path(get_file_place(name, file)).is_file()
    return CONFIG.models.zoo[name].is_fetched and was_checked and not is_there


def get_path_of_receipt(name, file):
    """Where the receipt of a file is, for a look at it before anything runs."""
    return Path(CONFIG.paths.results, CONFIG.experiment, "models", name, f"{file}.json")


def get_place(wildcards, output):
    """Where the file to check lies. Taking the output keeps it from being a reason to rerun."""
    return get_file_place(wildcards.model, wildcards.file)


def get_package(wildcards):
    """The Python package that brings it, if one does."""
    model = CONFIG.models.zoo[wildcards.model]
    return model.source if model.is_packaged else None


def get_lost_file(wildcards):
    """The file, if it was checked once and must be fetched again before anything reads it."""
    model, file = wildcards.model, wildcards.file
    return get_file_place(model, file) if is_lost(model, file) else None


def get_file_to_check(wildcards):
    """A file of a model; none of a package's."""
    model = CONFIG.models.zoo[wildcards.model]
    if model.is_packaged:
        return []
    path = get_file_place(wildcards.model, wildcards.file)
    if not model.is_fetched and not Path(path).is_file():
        raise WorkflowError(
            f"{path} is missing; put the files of {wildcards.model} there, or name their folder "
            f"or their source in models.zoo.{wildcards.model}."
        )
    key = f"models.zoo.{wildcards.model}.files"
    try:
        if model.reads_a_folder:
            pins.require_listed(Path(path), wildcards.file, model.files, key=key)
        pins.require_known(
            Path(path),
            get_path_of_receipt(wildcards.model, wildcards.file),
            model.files[wildcards.file],
            key=f"{key}.{wildcards.file}",
        )
    except DataError as error:
        raise WorkflowError(str(error)) from None
    return path


def get_pin(wildcards, output):
    """What a file must be. Taking the output keeps it from being a reason to rerun."""
    return CONFIG.models.zoo[wildcards.model].files[wildcards.file].model_dump()


def get_inputs_from_elsewhere(wildcards):
    """All that comes over a network: NSD's files, the captions, and models, which are checked."""
    archive = f"<data>/{nsd_files.CAPTIONS_ARCHIVE}"
    return [archive, *get_nsd_files(), *get_used_receipts()]


def get_used_receipts():
    """What the files of all models in use turned out to be."""
    used = sorted(
        name for name in CONFIG.used_models if not presence.is_skipped(CONFIG, name)
    )
    return [path for name in used for path in get_receipts(name)]


def get_nsd_files():
    """What is mirrored of NSD, or nothing where a copy of it is read in place."""
    if CONFIG.nsd.source == "local":
        return []
    names = [nsd_files.DESIGN, nsd_files.STIMULUS_INFORMATION, nsd_files.STIMULI]
    version = CONFIG.nsd.betas
    for subject in CONFIG.everybody:
        names += nsd_files.subject_objects(
            subject, sessions=(), version=version, file_format="hdf5"
        )
    betas = [path for subject in CONFIG.everybody for path in list_betas(subject)]
    return [f"<nsd>/{name}" for name in names] + betas


# --- voxels ---


def get_betas(wildcards):
    """The betas of every session of a subject that is used."""
    return list_betas(wildcards.subject)


def list_betas(subject):
    """Paths of those betas."""
    if CONFIG.nsd.source == "mindeye2":
        return [f"<data>/{nsd_files.renormalised_betas(subject)}"]
    names = nsd_files.all_session_betas(
        subject,
        sessions=CONFIG.nsd.sessions_used[subject],
        version=CONFIG.nsd.betas,
        file_format=CONFIG.nsd.fetched_format,
    )
    if CONFIG.nsd.source == "local" and not is_generated():
        require_local_files(names)
    return [f"<nsd>/{name}" for name in names]


def require_local_files(names):
    """Names what an existing copy of NSD lacks, before anything starts."""
    absent = [name for name in names if not Path(CONFIG.nsd.bucket, name).exists()]
    if absent:
        raise WorkflowError(
            f"nsd.bucket lacks {len(absent)} of {len(names)} sessions, the first is "
            f"{Path(CONFIG.nsd.bucket, absent[0])}; choose the nsd.format of your copy, "
            "or list them in nsd.missing_sessions."
        )


def get_mean_volume(wildcards):
    """A subject's mean volume, or nothing where an existing copy of NSD lacks it."""
    name = nsd_files.mean_volume(wildcards.subject)
    is_a_copy = CONFIG.nsd.source == "local" and not is_generated()
    if is_a_copy and not Path(CONFIG.nsd.bucket, name).exists():
        return []
    return f"<nsd>/{name}"


# --- targets ---


def get_responses(wildcards):
    """Which image each trial of every subject in use showed."""
    return [f"<nsd>/{nsd_files.responses(subject)}" for subject in CONFIG.everybody]


def get_autoencoder():
    """The model whose autoencoder makes the latents."""
    if CONFIG.targets.vae_latent.autoencoder == "stable_diffusion":
        return CONFIG.models.stable_diffusion
    return CONFIG.models.image_variations_autoencoder


def get_autoencoder_parts():
    """Its name, and the part that it is of a whole Stable Diffusion."""
    name = get_autoencoder()
    is_part = CONFIG.models.zoo[name].loader == "stable_diffusion"
    return (name, "vae/") if is_part else (name,)


def get_text_parts():
    """Stable Diffusion, and the parts of it that embed captions."""
    return CONFIG.models.stable_diffusion, "text_encoder/", "tokenizer/"


def locate_autoencoder():
    """Where its weights lie."""
    name, *part = get_autoencoder_parts()
    return locate(name, "".join([*part, WEIGHTS]))


# --- decoders ---


def get_other_voxels(wildcards):
    """Voxels of every pretraining subject but the decoder's own."""
    others = [name for name in CONFIG.pretraining_subjects if name != wildcards.subject]
    return collect("<results>/voxels/{subject}.h5", subject=others)


def get_teacher_parts(wildcards):
    """The model that teaches the low-level pipeline, and the part of it; nothing if none does."""
    teacher = CONFIG.decoder.low_level.teacher
    if wildcards.target != "vae_latent" or teacher == "none":
        return ()
    if teacher == "autoencoder":
        return get_autoencoder_parts()
    return (CONFIG.models.low_level_teacher,)


def get_teacher(wildcards):
    """The stimuli by which it teaches."""
    return [f"<nsd>/{nsd_files.STIMULI}"] if get_teacher_parts(wildcards) else []


def get_teaching_model(wildcards, output):
    """Where its weights lie."""
    parts = get_teacher_parts(wildcards)
    if not parts:
        return []
    is_autoencoder = CONFIG.decoder.low_level.teacher == "autoencoder"
    place = locate_autoencoder() if is_autoencoder else locate_only_file(*parts)
    return [place(wildcards, output)]


def get_teacher_receipts(wildcards):
    """What they are."""
    parts = get_teacher_parts(wildcards)
    return get_receipts(*parts) if parts else []


DECODERS = {
    "embeddings": "<results>/decoders/{target}/{subject}/finetuned.safetensors",
    "controls/scratch": "<results>/controls/scratch/{target}/{subject}.safetensors",
}


def get_decoder(wildcards):
    """The network whose embeddings lie in a place."""
    return DECODERS[wildcards.place]


def get_training_memory(wildcards):
    """MB: each process holds betas and targets; all share what a teacher says of 63,000 images."""
    if not GPUS:
        return 2500 * DECODER_PROCESSES
    return 24000 * DECODER_PROCESSES + (17000 if get_teacher_parts(wildcards) else 0)


# --- encoding ---


def locate_only_file(name):
    """Where the file of a model that has only one lies."""
    (file,) = CONFIG.models.zoo[name].files
    return locate(name, file)


def get_converted_gnet(wildcards):
    """The same as tensors, where encoders come from it."""
    released = CONFIG.encoding.source == "released"
    return ["<results>/encoders/released_gnet.safetensors"] if released else []


# --- reconstruction ---


def get_variant(wildcards):
    """The settings of a named variant."""
    variants = CONFIG.reconstruction.resolved_variants
    if wildcards.variant not in variants:
        raise WorkflowError(
            f"No variant {wildcards.variant}; known are {', '.join(variants)}."
        )
    return variants[wildcards.variant]


def get_conditions(wildcards):
    """What every sample starts from and is conditioned on."""
    return collect(
        "<results>/embeddings/{target}/{subject}.h5",
        target=["vae_latent", "clip_text"],
        subject=wildcards.subject,
    )


def get_calibrated(wildcards):
    """That part of it whose scales are calibrated."""
    get_variant(wildcards)
    return CONFIG.reconstruction.calibrated_variants[wildcards.variant]


def get_code(stage, variant_of):
    """A stage's code, with that of the functions that guide the variant."""
    return lambda wildcards: code_id(stage, *code_of(variant_of(wildcards).terms))


def get_guiding(wildcards):
    """What guides a variant's images; the mean feature is that of training stimuli."""
    variant = get_variant(wildcards)
    is_mean = variant.features == "mean"
    return list_guiding(variant, wildcards.subject, "stimulus" if is_mean else None)


def get_held_out_guiding(wildcards):
    """What a scale is calibrated on: held-out images with their own features."""
    return list_guiding(get_calibrated(wildcards), wildcards.subject)


def list_guiding(variant, subject, embedded_by=None):
    """Measured voxels of a subject, and embeddings of the same or of somebody else."""
    needs = CONFIG.needs_of(variant.terms)
    targets = [name for each in needs for name in each.targets]
    return [
        (
            f"<results>/voxels/{subject}.h5"
            if name == VOXELS
            else f"<results>/embeddings/{name}/{embedded_by or subject}.h5"
        )
        for name in dict.fromkeys(targets)
    ]


def get_guiding_encoder(variant_of):
    """The subject's encoder and its accuracy, where they guide."""
    paths = collect("<results>/encoders/{{subject}}.{kind}", kind=["safetensors", "h5"])
    return lambda wildcards: (
        [path.format(subject=wildcards.subject) for path in paths]
        if any(each.encoder for each in CONFIG.needs_of(variant_of(wildcards).terms))
        else []
    )


def list_guiding_models(variant):
    """Models of the zoo that guide, by the names under which functions find them."""
    needs = CONFIG.needs_of(variant.terms)
    return {role: name for each in needs for role, name in each.models.items()}


def get_generative_models(variant_of):
    """The folders of Stable Diffusion and of the networks that guide."""

    def locate_all(wildcards, output):
        named = {"stable_diffusion": CONFIG.models.stable_diffusion}
        named |= list_guiding_models(variant_of(wildcards))
        return {role: presence.name_place(CONFIG, name) for role, name in named.items()}

    return locate_all


def get_generative_receipts(variant_of):
    """What the models are that a variant's pictures come from."""

    def list_all(wildcards):
        guiding = list_guiding_models(variant_of(wildcards)).values()
        receipts = get_receipts(CONFIG.models.stable_diffusion, *DIFFUSION_PARTS)
        return receipts + [path for name in guiding for path in get_receipts(name)]

    return list_all


def get_calibrations_of(wildcards):
    """The calibrations of a variant's scales, its own and other variants'."""
    variant = get_variant(wildcards)
    scales = [term.scale for term in variant.terms.values()]
    lenders = [
        wildcards.variant if scale == "auto" else scale
        for scale in scales
        if isinstance(scale, str)
    ]
    return collect(
        "<results>/calibrations/{variant}/{subject}.json",
        variant=list(dict.fromkeys(lenders)),
        subject=wildcards.subject,
    )


def get_variants_that_run():
    """Variants whose images are made: those that run, and those that selections choose from."""
    return list(dict.fromkeys(get_maker(name) for name in CONFIG.reconstruction.run))


def get_maker(name):
    """The variant that made the images of a variant or selection."""
    return name_maker(name, CONFIG.reconstruction.selections)


def get_shards_to_choose_from(wildcards):
    """The reconstructions of one subject whose repeats a selection chooses from."""
    if wildcards.selection not in CONFIG.reconstruction.selections:
        raise WorkflowError(
            f"No selection {wildcards.selection}; known are "
            f"{', '.join(CONFIG.reconstruction.selections)}."
        )
    return list_shards(get_maker(wildcards.selection), wildcards.subject)


# --- evaluation ---


def get_judging_models():
    """The models that judge; where missing ones are skipped, those whose files are there."""
    return [
        name for name in CONFIG.judging_models if not presence.is_skipped(CONFIG, name)
    ]


def get_judging_receipts():
    """What they are."""
    return [path for name in get_judging_models() for path in get_receipts(name)]


def get_network_places(wildcards, output):
    """Where loaders find their networks: a folder in open_clip's layout, otherwise a file."""
    return {name: get_network_place(name) for name in get_judging_models()}


def get_network_place(name):
    """Where the loader of one network finds it."""
    model = CONFIG.models.zoo[name]
    if model.reads_a_folder:
        return presence.name_place(CONFIG, name)
    return get_file_place(name, next(iter(model.files)))


def get_decoded(targets):
    """By predictor, its embeddings of those among `targets` that it decodes, of one subject."""
    places = {"decoder": "<results>/embeddings/{target}/{subject}.h5"} | {
        control: f"<results>/controls/{control}/{{target}}/{{subject}}.h5"
        for control in CONFIG.decoder.controls
    }
    without = {"scratch": ["vae_latent"]}  # nothing to retrieve with
    return lambda wildcards: {
        predictor: [
            place.format(target=target, subject=wildcards.subject)
            for target in targets
            if target not in without.get(predictor, [])
        ]
        for predictor, place in places.items()
    }


def get_shards_to_evaluate(wildcards):
    """The reconstructions of one subject by a variant, or by the one of a selection."""
    return list_shards(get_maker(wildcards.variant), wildcards.subject)


def list_shards(variant, subject):
    """A variant's reconstructions of one subject."""
    return collect(
        "<results>/reconstructions/{variant}/{subject}/shard-{shard}.h5",
        variant=variant,
        subject=subject,
        shard=range(CONFIG.reconstruction.shards),
    )


def get_selection(wildcards):
    """Which of their repeats a selection chose; nothing for a variant."""
    return list_selections([wildcards.variant], wildcards.subject)


def list_selections(names, subject):
    """What each selection among some names chose for one subject."""
    return collect(
        "<results>/selections/{selection}/{subject}.csv",
        selection=[name for name in names if name in CONFIG.reconstruction.selections],
        subject=subject,
    )


def get_evaluations(name):
    """Paths of the table `name` of every variant and subject that is run."""
    return [
        f"<results>/evaluation/{variant}/{subject}/{name}"
        for variant in CONFIG.reconstruction.run
        for subject in get_variant_subjects(variant)
    ]


def get_variant_subjects(name):
    """Whose reconstructions a variant or selection has."""
    from_brain = CONFIG.reconstruction.variant_of(name).source == "brain"
    return CONFIG.subjects if from_brain else ["stimulus"]


def get_brain_evaluations(wildcards):
    """What every subject's brain says of every variant, and of the stimuli."""
    return collect(
        "<results>/evaluation/{variant}/{subject}/brain.csv",
        variant=[*CONFIG.reconstruction.run, STIMULUS],
        subject=CONFIG.subjects,
    )


def get_makings_to_judge(wildcards):
    """Whose images of a variant a subject's brain judges: its own, or those from ground truth."""
    is_own = wildcards.subject in get_variant_subjects(wildcards.variant)
    return wildcards.subject if is_own else STIMULUS


def get_shards_to_judge(wildcards):
    """These images."""
    return list_shards(get_maker(wildcards.variant), get_makings_to_judge(wildcards))


def get_selection_to_judge(wildcards):
    """Which of their repeats a selection chose; nothing for a variant."""
    return list_selections([wildcards.variant], get_makings_to_judge(wildcards))


# --- fidelity ---


def get_values_for_switch(wildcards):
    """The values per image that show what a switch does; brains judge what concerns them."""
    variants = list_variants(wildcards.switch)
    decoded = collect(
        "<results>/evaluation/{kind}/{subject}_images.csv",
        kind=["decoding", "retrieval"],
        subject=CONFIG.subjects,
    )
    images = [
        f"<results>/evaluation/{variant}/{subject}/images.csv"
        for variant in variants
        for subject in get_variant_subjects(variant)
    ]
    brain = collect(
        "<results>/evaluation/{variant}/{subject}/brain.csv",
        variant=variants,
        subject=CONFIG.subjects,
    )
    judged = "brain" in wildcards.switch or "encoder" in wildcards.switch
    return [*decoded, *images, *(brain if judged else [])]


# --- report ---


def get_shards():
    """All shards of what runs, every subject."""
    return [
        path
        for variant in get_variants_that_run()
        for subject in get_variant_subjects(variant)
        for path in list_shards(variant, subject)
    ]


def get_selections():
    """What every selection that runs chose, every subject."""
    return [
        path
        for name in CONFIG.reconstruction.run
        for subject in get_variant_subjects(name)
        for path in list_selections([name], subject)
    ]


def get_rival_images():
    """Other methods' pictures that the user has put into a folder, if any."""
    folder = CONFIG.report.rival_images
    return sorted(map(str, Path(folder).glob("*/*.png"))) if folder else []


def get_control_curves(targets):
    """Training curves of the control from scratch, if it runs."""
    return collect(
        "<results>/controls/scratch/{target}/{subject}_curve.csv",
        target=targets if "scratch" in CONFIG.decoder.controls else [],
        subject=CONFIG.subjects,
    )


def get_calibrations():
    """The calibration of every variant that asks for one."""
    variants = CONFIG.reconstruction.resolved_variants
    return [
        f"<results>/calibrations/{name}/{subject}.json"
        for name in get_variants_that_run()
        if any(term.scale == "auto" for term in variants[name].terms.values())
        for subject in get_variant_subjects(name)
    ]


def get_table_sources(wildcards):
    """What the catalogue says a table is laid out from."""
    return {kind: ARTEFACTS[kind] for kind in TABLES[wildcards.table]}


def get_figure_sources(wildcards):
    """What the catalogue says a figure is drawn from."""
    return {kind: ARTEFACTS[kind] for kind in FIGURES[wildcards.figure]}


# --- gallery ---


def list_gallery_runs():
    """(variant or selection, subject) of everything that the gallery's page can show."""
    names = CONFIG.report.gallery_variants or CONFIG.reconstruction.run
    return [(name, subject) for name in names for subject in get_variant_subjects(name)]


def get_thumbnails():
    """What stands in each of their folders of small pictures."""
    return [
        f"<results>/gallery/thumbnails/{variant}/{subject}.json"
        for variant, subject in list_gallery_runs()
    ]


def get_gallery_evaluations(name):
    """Their tables `name` of values per image; brains judge only what comes from a brain."""
    return [
        f"<results>/evaluation/{variant}/{subject}/{name}"
        for variant, subject in list_gallery_runs()
        if name != "brain.csv" or subject != "stimulus"
    ]


def get_gallery_values():
    """The scripts that hand these values to the page."""
    return [
        f"<results>/gallery/values/{variant}/{subject}.js"
        for variant, subject in list_gallery_runs()
    ]
