"""How the experiment was made, in words generated from the configuration that was used."""

from neuraldiffuser import words
from neuraldiffuser.config.decoder import DecoderSettings
from neuraldiffuser.config.description import Description
from neuraldiffuser.config.evaluation import Evaluation
from neuraldiffuser.config.targets import TargetSettings
from neuraldiffuser.reporting import labels

NORMALISATIONS = {
    "global_training": "normalised with the mean and deviation of all its training trials",
    "session_training": "normalised session by session, with the mean and deviation of the "
    "session's training trials",
    "session_all": "normalised session by session, with the mean and deviation of all the "
    "session's trials, test images included",
    "session_all_then_split": "normalised session by session over all trials, then again over its "
    "training trials, and for test trials over the averaged test images",
    "averaged_training": "normalised with the mean and deviation of training images averaged over "
    "repeats",
    "none": "left as its source gives it",
}
INVALID_VOXELS = {
    "missing": "A voxel that is constant over a session has no value there: the session counts in "
    "none of its means, and decoders meet 0.",
    "dropped": "Voxels that are constant over any session are left out.",
    "refused": "No voxel is constant over any session.",
}
TEST_AVERAGES = {
    "voxels": "the voxels of a test image's repeats are averaged before decoding",
    "outputs": "each repeat of a test image is decoded and the outputs are averaged",
}
MISSING_REPEATS = {
    "skipped": "as many as there are",
    "padded": "the first counted again where there are fewer than three",
}
AUTOENCODERS = {
    "stable_diffusion": "the autoencoder of Stable Diffusion",
    "image_variations": "the autoencoder of Stable Diffusion Image Variations",
}
POSTERIORS = {"mode": "mean of the latent distribution", "sample": "draw from the latent"}
CAPTIONS = {"mean": "averaged over an image's captions", "first": "of an image's first caption"}
NODES = {
    "block_output": "outputs of residual blocks",
    "mlp_projection": "last projections of the MLP branches, in the block of half that number",
}
CHANNELS = {"clip": "CLIP's own channel statistics", "imagenet": "ImageNet's channel statistics"}
BACKBONES = {
    "released_mixer": "the released MLP-Mixer, which is affine in the voxels",
    "residual_mlp": "a residual MLP",
}
ALIGNMENTS = {
    "test_predictions": "aligned with the training targets by statistics of the test predictions",
    "validation_predictions": "aligned with the training targets by statistics of predictions for "
    "held-out training images",
    "none": "not aligned",
}
CLIP_LOSSES = {
    "sum_squares": "the sum of squared differences over all layers (Eq. 14)",
    "weighted_mean": "mean squared differences, weighted by layer as in the released code",
}
ENCODER_LOSSES = {
    "mean_squares": "mean squared differences",
    "correlation": "one minus the correlation over voxels",
}
WEIGHTINGS = {
    "equal": "each voxel counting alike",
    "accuracy": "voxels weighted by the model's squared correlation on held-out training images",
}
SELECTIONS = {
    "decoded_features": "the repeat whose CLIP layers are most like the decoded ones, which looks "
    "at no test stimulus",
}
GUIDED_STEPS = {"first": "first", "last": "last"}
TWEEDIE = {"exact": "exactly", "released": "with the released code's coefficient"}
NOISE_LEVELS = {
    "aligned": "the noise of the first step that is run",
    "released": "the noise level of the released code, above that of the first step",
}
IDENTIFICATIONS = {
    "mindeye": "for every single reconstruction against the other stimuli (MindEye)",
    "takagi": "for every stimulus against the other reconstructions, correlations averaged over "
    "repeats (Takagi et al.)",
}
SSIMS = {"2d": "two-dimensional windows", "columns": "columns as channels (old scikit-image)"}
BRAIN_CORRELATIONS = {
    "voxels_per_image": "over the voxels of a region for each image",
    "images_per_voxel": "over images for each voxel",
}
CONTROLS = {
    "ridge": "ridge regression on voxels averaged over repeats",
    "scratch": "the same network trained from random weights for as many steps as finetuning, "
    "without those of pretraining",
}
VOTES = {
    "majority": "majority of the layers' first choices, ties broken by summed similarity",
    "sum": "largest summed similarity",
}
ENCODERS = {
    "train": "trained on the subject's own training trials with early stopping",
    "released": "converted from the released multi-subject weights",
}


def write_methods(description: Description) -> list[tuple[str, str]]:
    """(heading, paragraph) for each stage, in the order in which data flows."""
    return [
        ("Brains", _tell_brains(description)),
        ("Embeddings", _tell_targets(description.targets)),
        ("Decoders", _tell_decoders(description)),
        ("Reconstruction", _tell_reconstruction(description)),
        ("Encoding models", _tell_encoding(description)),
        ("Evaluation", _tell_evaluation(description.evaluation)),
    ]


def _tell_brains(description: Description) -> str:
    voxels = description.voxels
    return (
        f"Responses ({description.betas}, voxels of nsdgeneral) of "
        f"{words.join_words(list(description.subjects))} are decoded; the decoders are pretrained "
        f"on the others among {words.join_words(list(description.pretraining_subjects))}. Each "
        f"voxel is {NORMALISATIONS[voxels.normalisation]}. "
        f"{INVALID_VOXELS[voxels.invalid_voxels]} Single trials train the decoders; "
        f"{TEST_AVERAGES[voxels.test_average]}, {MISSING_REPEATS[voxels.missing_repeats]}. All "
        f"random numbers derive from seed {description.seed}."
    )


def _tell_targets(targets: TargetSettings) -> str:
    latent, image = targets.vae_latent, targets.clip_image
    shrunk = "" if latent.source_size is None else f" shrunk to {latent.source_size} pixels and"
    filtered = "with" if image.antialias else "without"
    return (
        f"z: {POSTERIORS[latent.posterior]} of {AUTOENCODERS[latent.autoencoder]}, from images"
        f"{shrunk} resized to {latent.image_size} pixels. c: states of the text encoder, "
        f"{CAPTIONS[targets.clip_text.captions]}. g: {NODES[image.node]}, layers "
        f"{words.join_words([str(layer) for layer in image.layers])} of the CLIP image tower, with "
        f"{CHANNELS[image.normalisation]}, resized {filtered} antialiasing."
    )


def _tell_decoders(description: Description) -> str:
    decoder = description.decoder
    network, objective, prediction = decoder.network, decoder.objective, decoder.prediction
    depth = words.write_count(decoder.prior.depth, "layer")
    mixed = f"{100 * objective.mixco_fraction:.0f} %"
    aligned = words.join_words([labels.label_target(name) for name in prediction.aligned_targets])
    return (
        f"One decoder per embedding: a linear layer per subject into {network.hidden_size} "
        f"dimensions, {BACKBONES[decoder.backbone]} of {network.blocks} blocks, a projector for "
        f"the contrastive losses and a diffusion prior of {depth} and "
        f"{decoder.prior.timesteps} noise levels (the latent has a convolutional upsampler "
        f"instead). The first {mixed} of the epochs use BiMixCo, the others "
        f"soft CLIP; the prior's loss weighs {objective.prior_weight:g}. {_tell_budget(decoder)} "
        f"{words.write_count(decoder.validation_images, 'training image')} of each subject are "
        f"held out of its finetuning.{_tell_controls(decoder)} {aligned} is "
        f"{ALIGNMENTS[prediction.alignment]}."
    )


def _tell_controls(decoder: DecoderSettings) -> str:
    if not decoder.controls:
        return ""
    told = words.join_words([CONTROLS[name] for name in decoder.controls])
    return f" The same images are decoded by controls: {told}."


def _tell_budget(decoder: DecoderSettings) -> str:
    stages = (("Pretraining", decoder.pretraining), ("finetuning", decoder.finetuning))
    told = [
        f"{name}: {words.write_count(budget.epochs, 'epoch')} of "
        f"{words.group_thousands(budget.samples_per_epoch)} trials in batches of "
        f"{budget.batch_size}"
        for name, budget in stages
    ]
    return "; ".join(told) + "."


def _tell_reconstruction(description: Description) -> str:
    sampler = description.reconstruction
    run = int(sampler.steps * sampler.strength)
    noise = NOISE_LEVELS[sampler.noise_timestep]
    return (
        f"Image-to-image sampling from the decoded latent with {noise}: the last {run} of "
        f"{sampler.steps} DDIM steps, classifier-free guidance "
        f"{sampler.classifier_free_scale:g}, self-attention guidance "
        f"{sampler.self_attention_scale:g}. Guidance acts on the "
        f"{GUIDED_STEPS[sampler.guided_steps]} η of these steps; the clean estimate behind it is "
        f"computed {TWEEDIE[sampler.tweedie]}. {_tell_functions(description)}"
        f"{words.write_count(sampler.repeats, 'repeat')} per image, from the same noise in every "
        f"variant; the network computes in {sampler.precision}, the guidance functions in float32. "
        f"Variants: {_tell_variants(description)}."
    )


def _tell_functions(description: Description) -> str:
    """Sentences for every guidance function that a variant of the run uses."""
    reconstruction = description.reconstruction
    run = [reconstruction.variant_of(name) for name in reconstruction.run]
    used = dict.fromkeys(function for variant in run for function in variant.terms)
    told = [_tell_function(name, description) for name in used]
    return "".join(f"{sentence} " for sentence in told)


def _tell_function(name: str, description: Description) -> str:
    """What a function does, with its settings; one that has no words here tells of itself."""
    if name in FUNCTIONS:
        return FUNCTIONS[name](description)
    fields = type(description.reconstruction.guidance).model_fields
    return f"Guidance by {labels.label_function(name)}: {fields[name].description}"


def _tell_clip_layers(description: Description) -> str:
    layers = words.write_count(len(description.targets.clip_image.layers), "decoded CLIP layer")
    loss = description.reconstruction.guidance.clip_layers.loss
    return (
        f"Primary visual feature guidance compares {layers} with those of the image behind that "
        f"estimate, by {CLIP_LOSSES[loss]}."
    )


def _tell_encoder(description: Description) -> str:
    settings = description.reconstruction.guidance.encoder
    share = "the voxels" if settings.share == 1 else f"{100 * settings.share:g} % of the voxels"
    return (
        f"Guidance by brain encoding compares {share} of {words.join_words([*settings.regions])} "
        "that the encoding model predicts for that image with the measured ones, by "
        f"{ENCODER_LOSSES[settings.loss]}, {WEIGHTINGS[settings.weighting]}."
    )


def _tell_color(description: Description) -> str:
    grid = description.reconstruction.guidance.color.grid
    return (
        f"Guidance by colours compares the mean colours of {grid} × {grid} cells with those of the "
        "image that the decoded latent stands for."
    )


def _tell_edges(description: Description) -> str:
    settings = description.reconstruction.guidance.edges
    return (
        f"Guidance by edges compares edge strengths at {settings.size} pixels, blurred over "
        f"{settings.blur:g}, with those of the image that the decoded latent stands for."
    )


FUNCTIONS = {
    "clip_layers": _tell_clip_layers,
    "encoder": _tell_encoder,
    "color": _tell_color,
    "edges": _tell_edges,
}


def _tell_variants(description: Description) -> str:
    variants, selections = description.presentation.variants, description.presentation.selections
    told = []
    for name in description.reconstruction.run:
        if name in selections:
            selection = selections[name]
            what = f"of {labels.label_variant(selection.of)}, {SELECTIONS[selection.by]}"
        else:
            what = labels.describe_variant(name, variants)
        told.append(f"{labels.label_variant(name)} ({what})")
    return "; ".join(told)


def _tell_encoding(description: Description) -> str:
    variants = description.presentation.variants
    guided = [
        labels.label_variant(name)
        for name in description.reconstruction.run
        if labels.is_guided_by_encoder(name, variants)
    ]
    share = description.reconstruction.guidance.encoder.share
    part = "It takes no part in decoding or guidance."
    if guided:
        part = f"It guides {words.join_words(guided)}, {_tell_judging(share)}"
    return (
        f"A GNet-style encoding model per subject, {ENCODERS[description.encoding.source]}, "
        f"predicts the response of every voxel to an image. {part}"
    )


def _tell_judging(share: float) -> str:
    """What judges brain correlation where a share of the voxels guides."""
    if share < 1:
        return (
            f"through {100 * share:.0f} % of the voxels in its regions, drawn at random; the "
            "others judge the brain correlation of every variant. Both parts share the noise of "
            "the same trials."
        )
    return (
        "whose brain correlation it therefore cannot judge, and takes no other part in decoding "
        "or guidance."
    )


def _tell_evaluation(evaluation: Evaluation) -> str:
    judging = (evaluation.networks[judge.network] for judge in evaluation.judges)
    networks = sorted({network.model for network in judging})
    bootstrap, retrieval = evaluation.bootstrap, evaluation.retrieval
    return (
        f"PixCorr, SSIM ({SSIMS[evaluation.ssim]}) and consistency (pixel correlation between "
        f"repeats) at {evaluation.image_size} pixels. Two-way identification "
        f"{IDENTIFICATIONS[evaluation.identification]}, on layers of {words.join_words(networks)}. "
        f"Brain correlation {BRAIN_CORRELATIONS[evaluation.brain_correlation]}. Retrieval among "
        f"{retrieval.candidates} candidates, or as many as there are, in {retrieval.draws} draws, "
        "and among all images: image retrieval picks an image for a brain, brain retrieval a brain "
        "for an image (the peers' code exchanges the two labels); projections are compared by "
        "cosine, embeddings by the cosine of what they add to the mean training feature; the "
        f"guidance layers vote: {VOTES[retrieval.vote]}. Intervals: {100 * bootstrap.level:g} % "
        f"bootstrap over images with {words.group_thousands(bootstrap.draws)} draws, after "
        "averaging over repeats and subjects. They tell what other images would change, not what "
        "another training would: every network was trained once, from one seed. Intervals stand "
        "unadjusted, each for itself. p is that of a two-sided permutation test that flips the "
        "signs of an image's differences, adjusted by Holm over the measures of one comparison."
    )
