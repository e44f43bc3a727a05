"""Which rules read each key of the configuration, by hand, and another value that it may have.

The rules are those that run for a reason of their own when the key alone is changed in the finished
miniature of tests/tiny_world.yaml; whatever depends on them follows. The first row whose pattern
matches a key tells of it.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

AUTOMATIC = object()  # a number becomes another one, a switch turns
ONLY_ONE_VALUE = object()  # there is nothing to change it to


class Row(NamedTuple):
    """What a changed key does.

    Attributes:
        rules: names of those that run first.
        value: what the key becomes.
        beside: other keys that must change with it for the configuration to stay valid.
    """

    rules: str
    value: Any = AUTOMATIC
    beside: Mapping[str, Any] = {}


TOLD = " write_report"  # which tells every setting that decides a result
SHOWN = " make_table make_figure write_gallery" + TOLD  # which name and order what they show
TARGETS = "extract_vae_latent extract_clip_text extract_clip_image"
DECODERS = "pretrain_decoder finetune_decoder train_from_scratch" + TOLD
LOW_LEVEL = "pretrain_decoder finetune_decoder" + TOLD
IMAGES = "calibrate_guidance reconstruct_images" + TOLD
GUIDANCE = "extract_clip_image select_repeats calibrate_guidance reconstruct_images" + TOLD
ENCODER_SHARE = "evaluate_brain evaluate_brain_of_stimuli " + IMAGES
INTERVALS = (
    "evaluate_encoder compare_brain evaluate_decoding evaluate_retrieval compare_predictors"
    " summarise_evaluation compare_sweep derive_findings" + TOLD
)
NEW_MODEL = "fetch_model check_model" + TOLD
JUDGES = "evaluate_reconstructions" + TOLD

# Variants: their own words stand in tables, claims and the sweep; their worked-out settings decide
# summaries; images and calibrations follow where the variant runs.
NAMED = "compare_sweep derive_findings" + SHOWN
WORKED_OUT = "summarise_evaluation " + NAMED
SAMPLED = "reconstruct_images " + WORKED_OUT
CALIBRATED = "calibrate_guidance " + SAMPLED
NEW_PICTURES = "evaluate_reconstructions make_gallery make_thumbnails "
NUMBERS = {
    name: {"scale": 1.0}
    for name in (
        "wrong_image",
        "mean_feature",
        "scale_1_strength_100",
        "scale_10_strength_100",
        "scale_100_strength_100",
        "scale_100_strength_80",
        "scale_100_strength_60",
        "scale_100_strength_40",
        "scale_100_strength_10",
        "scale_1000_strength_100",
    )
} | {"clip_and_color": {"guidance": {"clip_layers": {"scale": 1.0}}}}


def variants(**keys: Any) -> dict[str, Any]:
    """Changes of variants."""
    return {"reconstruction": {"variants": keys}}


def zoo(**models: Any) -> dict[str, Any]:
    """Changes of the zoo; underscores stand for hyphens."""
    return {"models": {"zoo": {name.replace("_", "-"): keys for name, keys in models.items()}}}


ANOTHER = {"role": "another", "licence": "none"}
AUTOENCODER = {"files": {"config.json": {}, "diffusion_pytorch_model.safetensors": {}}}
OPEN_CLIP = {"files": {"open_clip_config.json": {}, "open_clip_model.safetensors": {}}}
V = "reconstruction.variants."

TABLE = {
    # --- where and how, not what ---
    "experiment": Row("", "linked"),
    "paths.results": Row("", "linked_results"),
    "paths.data": Row("", "linked_data"),
    "paths.models": Row("", "linked_models"),
    "runtime.device": Row("", "cpu"),
    "runtime.gpu_memory_gb": Row("", 8),
    "runtime.*": Row(""),
    "fidelity.hours": Row(""),
    # --- everybody's ---
    "seed": Row(
        "extract_vae_latent train_encoder pretrain_decoder finetune_decoder train_from_scratch"
        " predict_embeddings decode_by_ridge collect_ground_truth calibrate_guidance"
        " reconstruct_images evaluate_brain evaluate_brain_of_stimuli" + TOLD
    ),
    "subjects": Row(
        "generate_mini_world pretrain_decoder finetune_decoder train_from_scratch"
        " predict_embeddings decode_by_ridge train_encoder evaluate_encoder calibrate_guidance"
        " reconstruct_images select_repeats evaluate_reconstructions evaluate_brain"
        " evaluate_brain_of_stimuli evaluate_decoding evaluate_retrieval make_gallery"
        " make_thumbnails" + SHOWN,
        ["subj01", "subj02"],
    ),
    "pretraining_subjects": Row(
        "generate_mini_world fetch_file fetch_region_betas prepare_voxels draw_regions" + TOLD,
        ["subj01", "subj02", "subj03"],
    ),
    # --- recordings ---
    "nsd.source": Row("prepare_voxels", "local"),
    "nsd.bucket": Row("fetch_file fetch_region_betas", "s3://natural-scenes-dataset"),
    "nsd.region": Row("fetch_file fetch_region_betas", "eu-west-1"),
    "nsd.fetch": Row("fetch_session", "whole"),
    "nsd.terms_accepted": Row(""),
    "nsd.captions_url": Row("fetch_captions", "https://example.org/captions.zip"),
    "nsd.captions_sha256": Row("fetch_captions", "0" * 64),
    "nsd.betas": Row("generate_mini_world fetch_file fetch_region_betas" + TOLD, "betas_assumehrf"),
    "nsd.format": Row(
        "fetch_file fetch_session",
        "nii.gz",
        {"nsd": {"fetch": "whole", "bucket": "s3://natural-scenes-dataset"}},
    ),
    "nsd.sessions.subj01": Row("generate_mini_world prepare_voxels " + TARGETS, 1),
    "nsd.sessions.subj02": Row("generate_mini_world prepare_voxels " + TARGETS, 1),
    "nsd.sessions.*": Row("generate_mini_world " + TARGETS),
    "nsd.missing_sessions": Row("prepare_voxels", {"subj01": [2]}),
    "nsd.mindeye2_url": Row("", "https://example.org/{subject}.hdf5"),
    "mini.bucket": Row("fetch_file fetch_region_betas fetch_captions", "results/other_bucket"),
    "mini.world.image_size": Row("generate_mini_world", 96),
    "mini.world.voxels": Row("generate_mini_world", [300, 500]),
    "mini.world.*": Row("generate_mini_world"),
    "mini.training.*": Row(""),  # their models ship with the repository
    "voxels.normalisation": Row("prepare_voxels" + TOLD, "session_all"),
    "voxels.invalid_voxels": Row("prepare_voxels" + TOLD, "dropped"),
    "voxels.test_average": Row("predict_embeddings" + TOLD, "outputs"),
    "voxels.missing_repeats": Row("predict_embeddings decode_by_ridge " + IMAGES, "padded"),
    # --- models ---
    "models.stable_diffusion": Row(NEW_MODEL, "stable-diffusion-v1-4"),
    "models.clip_image": Row(NEW_MODEL, "clip-vit-b-32"),
    "models.image_variations_autoencoder": Row("", "sd-image-variations-vae"),
    "models.gnet": Row(
        "", "another", zoo(another=ANOTHER | {"loader": "gnet", "files": {"a.pt": {}}})
    ),
    "models.low_level_teacher": Row(
        "",
        "another",
        zoo(another=ANOTHER | {"loader": "vicregl_convnext", "files": {"a.pth": {}}}),
    ),
    "models.zoo.stable-diffusion.folder": Row(TOLD, "linked_models/stable-diffusion"),
    "models.zoo.clip.folder": Row(TOLD, "linked_models/clip"),
    "models.zoo.efficientnet_lite0.folder": Row(JUDGES, "nowhere"),
    "models.zoo.alexnet.folder": Row(TOLD, "nowhere"),  # a judge that is skipped, which is told
    **{
        f"models.zoo.{used}.{key}": Row(TOLD, value)
        for used in ("stable-diffusion", "clip", "efficientnet_lite0", "alexnet")
        for key, value in (
            ("source", "https://example.org/models"),
            ("role", "other words"),
            ("licence", "other terms"),
            ("files.*", None),  # no longer pinned
        )
    },
    "models.zoo.efficientnet_lite0.source": Row("check_model" + TOLD, "package://another_package"),
    # Models that the experiment does not use.
    "models.zoo.*.folder": Row("", "nowhere"),
    "models.zoo.*.source": Row("", "https://example.org/models"),
    "models.zoo.stable-diffusion.loader": Row(
        NEW_MODEL,
        "autoencoder",
        {
            "models": {
                "stable_diffusion": "stable-diffusion-v1-4",
                "zoo": {"stable-diffusion": AUTOENCODER},
            }
        },
    ),
    "models.zoo.clip.loader": Row(
        NEW_MODEL,
        "autoencoder",
        {"models": {"clip_image": "clip-vit-b-32", "zoo": {"clip": AUTOENCODER}}},
    ),
    "models.zoo.efficientnet_lite0.loader": Row(
        "check_model evaluate_reconstructions" + TOLD, "alexnet"
    ),
    "models.zoo.alexnet.loader": Row(
        JUDGES, "inception_v3", {"evaluation": {"networks": {"lpips": {"architecture": None}}}}
    ),
    "models.zoo.stable-diffusion-v1-4.loader": Row(
        "", "autoencoder", zoo(stable_diffusion_v1_4=AUTOENCODER)
    ),
    "models.zoo.sd-image-variations-vae.loader": Row(
        "", "open_clip", zoo(sd_image_variations_vae=OPEN_CLIP)
    ),
    "models.zoo.clip-vit-b-32.loader": Row("", "autoencoder", zoo(clip_vit_b_32=AUTOENCODER)),
    "models.zoo.clip-vit-l-14.loader": Row(
        TOLD,
        "autoencoder",
        zoo(clip_vit_l_14=AUTOENCODER)
        | {"evaluation": {"networks": {"clip": {"model": "alexnet"}}}},
    ),
    "models.zoo.vicregl-convnext-xl.loader": Row(
        "",
        "alexnet",
        {
            "models": {
                "low_level_teacher": "another",
                "zoo": {
                    "another": ANOTHER | {"loader": "vicregl_convnext", "files": {"a.pth": {}}}
                },
            }
        },
    ),
    "models.zoo.gnet.loader": Row(
        "",
        "alexnet",
        {
            "models": {
                "gnet": "another",
                "zoo": {"another": ANOTHER | {"loader": "gnet", "files": {"a.pt": {}}}},
            }
        },
    ),
    "models.zoo.swav.loader": Row("", "alexnet"),
    "models.zoo.*.loader": Row("", "swav_resnet50"),
    "models.zoo.*.role": Row("", "other words"),
    "models.zoo.*.licence": Row("", "other terms"),
    "models.zoo.*.size": Row("", 12345),
    "models.zoo.*.sha256": Row("", "0" * 64),
    # --- targets and decoders ---
    "targets.precision": Row(TARGETS + TOLD, "bfloat16"),
    "targets.dtype": Row(TARGETS + TOLD, "float32"),
    "targets.vae_latent.autoencoder": Row("extract_vae_latent" + TOLD, "image_variations"),
    "targets.vae_latent.posterior": Row("extract_vae_latent" + TOLD, "sample"),
    "targets.vae_latent.image_size": Row("extract_vae_latent" + TOLD, 72),
    "targets.vae_latent.source_size": Row("extract_vae_latent" + TOLD, 32),
    "targets.clip_text.captions": Row("extract_clip_text" + TOLD, "first"),
    "targets.clip_image.layers": Row(
        "pretrain_decoder finetune_decoder train_from_scratch predict_embeddings decode_by_ridge"
        " collect_ground_truth " + GUIDANCE,
        [2, 4, 12],
    ),
    "targets.clip_image.node": Row(GUIDANCE, "mlp_projection"),
    "targets.clip_image.normalisation": Row(GUIDANCE, "imagenet"),
    "targets.clip_image.antialias": Row(GUIDANCE),
    "decoder.backbone": Row(DECODERS, "released_mixer"),
    "decoder.mixco_permutation": Row(DECODERS, "per_subject_unoffset"),
    "decoder.target_scaling": Row(DECODERS, "per_dimension"),
    "decoder.validation_images": Row(
        "finetune_decoder train_from_scratch decode_by_ridge collect_ground_truth train_encoder"
        + TOLD
    ),
    "decoder.network.*": Row(DECODERS),
    "decoder.prior.prediction": Row(DECODERS, "target"),
    "decoder.prior.rotary_size": Row(DECODERS, 34),
    "decoder.prior.*": Row(DECODERS),
    "decoder.low_level.teacher": Row(LOW_LEVEL, "autoencoder"),
    "decoder.low_level.upsampler_channels": Row(LOW_LEVEL, [32, 64, 64]),
    "decoder.low_level.*": Row(LOW_LEVEL),
    "decoder.objective.soft_temperatures": Row(DECODERS, [0.004, 0.01]),
    "decoder.objective.*": Row(DECODERS),
    "decoder.optimiser.decay_groups": Row(DECODERS, "released"),
    "decoder.optimiser.precision": Row(DECODERS, "bf16"),
    "decoder.optimiser.*": Row(DECODERS),
    "decoder.pretraining.*": Row("pretrain_decoder" + TOLD),
    "decoder.finetuning.*": Row("finetune_decoder train_from_scratch" + TOLD),
    "decoder.prediction.prior_sampling": Row("predict_embeddings" + TOLD, "released"),
    "decoder.prediction.prior_*": Row("predict_embeddings" + TOLD),
    "decoder.prediction.alignment": Row("predict_embeddings decode_by_ridge" + TOLD, "none"),
    "decoder.prediction.aligned_targets": Row(
        "predict_embeddings decode_by_ridge" + TOLD, ["vae_latent", "clip_text"]
    ),
    "decoder.controls": Row("evaluate_decoding evaluate_retrieval make_figure" + TOLD, ["ridge"]),
    "decoder.ridge.penalties": Row("decode_by_ridge" + TOLD, [10.0, 100.0]),
    # --- encoding models ---
    "encoding.source": Row("fetch_model check_model convert_gnet train_encoder" + TOLD, "released"),
    "encoding.network.prefilter_channels": Row("train_encoder" + TOLD, [24, 64]),
    "encoding.*": Row("train_encoder" + TOLD),
    # --- reconstruction ---
    "reconstruction.noise_timestep": Row(IMAGES, "released"),
    "reconstruction.precision": Row(IMAGES, "float16"),
    "reconstruction.tweedie": Row(IMAGES, "released"),
    "reconstruction.latent_blend": Row(IMAGES, "none"),
    "reconstruction.guidance_prediction": Row(IMAGES, "classifier_free"),
    "reconstruction.guided_steps": Row(IMAGES, "last"),
    "reconstruction.non_finite_gradients": Row(IMAGES, "clip"),
    "reconstruction.guidance.clip_layers.loss": Row(IMAGES, "weighted_mean"),
    "reconstruction.guidance.clip_layers.layer_weights": Row(TOLD, [1.5, 1.2]),  # of that loss only
    "reconstruction.guidance.encoder.loss": Row(IMAGES, "correlation"),
    "reconstruction.guidance.encoder.weighting": Row(IMAGES, "accuracy"),
    "reconstruction.guidance.encoder.regions": Row(ENCODER_SHARE, ["V1"]),
    "reconstruction.guidance.encoder.share": Row(ENCODER_SHARE),
    "reconstruction.guidance.color.grid": Row(IMAGES),
    "reconstruction.guidance.edges.*": Row(TOLD),  # no variant that runs
    "reconstruction.calibration_images": Row("calibrate_guidance" + TOLD),
    "reconstruction.repeats": Row("reconstruct_images" + TOLD),
    "reconstruction.shards": Row("reconstruct_images" + TOLD),
    "reconstruction.selections.guided_best.of": Row(
        "select_repeats evaluate_reconstructions evaluate_brain make_gallery make_thumbnails"
        " summarise_evaluation derive_findings" + SHOWN,
        "unguided",
    ),
    "reconstruction.selections.guided_best.by": Row("", ONLY_ONE_VALUE),
    "reconstruction.run": Row(
        "summarise_evaluation compare_brain compare_sweep make_stimulus_thumbnails" + SHOWN,
        [
            "guided",
            "unguided",
            "wrong_image",
            "mean_feature",
            "ground_truth_guided",
            "ground_truth_unguided",
            "brain_encoding",
            "guided_best",
        ],
    ),
    V + "guided.source": Row(
        "select_repeats " + NEW_PICTURES + CALIBRATED, "stimulus", variants(**NUMBERS)
    ),
    V + "guided.guidance": Row(CALIBRATED, "color", variants(**NUMBERS)),
    V + "ground_truth_guided.source": Row(NEW_PICTURES + CALIBRATED, "brain"),
    V + "brain_encoding.source": Row(
        NEW_PICTURES + CALIBRATED, "stimulus", variants(brain_encoding={"guidance": "color"})
    ),
    V + "unguided.source": Row(NEW_PICTURES + SAMPLED, "stimulus"),
    V + "ground_truth_unguided.source": Row(NEW_PICTURES + SAMPLED, "brain"),
    V + "*unguided.guidance": Row(CALIBRATED, "clip_layers"),
    V + "*unguided.features": Row(NAMED, "mean"),
    V + "*unguided.scale": Row(NAMED, 100.0),
    V + "*unguided.*": Row(NAMED),  # nothing guides them
    V + "brain_encoding.guidance": Row(CALIBRATED, "clip_layers"),
    V + "ground_truth_guided.guidance": Row(CALIBRATED, "color"),
    V + "clip_and_color.guidance.clip_layers.ratio": Row(NAMED),  # its scale is lent
    V + "clip_and_color.guidance.color.ratio": Row("calibrate_guidance " + NAMED),
    V + "clip_and_color.guidance.*.scale": Row(SAMPLED, 100.0),
    V + "clip_and_color.guidance.*": Row(SAMPLED),
    V + "clip_and_color.source": Row(
        NEW_PICTURES + CALIBRATED,
        "stimulus",
        variants(clip_and_color={"guidance": {"clip_layers": {"scale": 1.0}}}),
    ),
    V + "clip_and_color.scale": Row(SAMPLED, 100.0, variants(clip_and_color={"guidance": "color"})),
    V + "clip_and_color.scale_factor": Row(
        CALIBRATED, 2.0, variants(clip_and_color={"guidance": "color"})
    ),
    V + "clip_and_color.ratio": Row(
        CALIBRATED, 0.3, variants(clip_and_color={"guidance": "color"})
    ),
    V + "guided.scale": Row(SAMPLED, 100.0),
    V + "*_guided.scale": Row(SAMPLED, 100.0),
    V + "brain_encoding.scale": Row(SAMPLED, 100.0),
    V + "mean_feature.scale": Row(SAMPLED, 100.0),
    V + "wrong_image.scale": Row("calibrate_guidance " + SAMPLED, "auto"),
    V + "guided.ratio": Row("calibrate_guidance " + NAMED),
    V + "ground_truth_guided.ratio": Row("calibrate_guidance " + NAMED),
    V + "brain_encoding.ratio": Row("calibrate_guidance " + NAMED),
    V + "*.ratio": Row(NAMED),  # of scales that are calibrated where they are used
    V + "guided.strength": Row(CALIBRATED),
    V + "ground_truth_guided.strength": Row(CALIBRATED),
    V + "brain_encoding.strength": Row(CALIBRATED),
    V + "clip_and_color.strength": Row(CALIBRATED),
    V + "mean_feature.source": Row(
        NEW_PICTURES + SAMPLED, "stimulus", variants(mean_feature={"scale": 1.0})
    ),
    V + "wrong_image.source": Row(
        NEW_PICTURES + SAMPLED, "stimulus", variants(wrong_image={"scale": 1.0})
    ),
    V + "mean_feature.guidance": Row(SAMPLED, "color", variants(mean_feature={"scale": 1.0})),
    V + "wrong_image.guidance": Row(SAMPLED, "color", variants(wrong_image={"scale": 1.0})),
    V + "mean_feature.features": Row(SAMPLED, "own"),
    V + "wrong_image.features": Row(SAMPLED, "mean"),
    V + "guided.features": Row(SAMPLED, "mean"),
    V + "ground_truth_guided.features": Row(SAMPLED, "mean"),
    V + "brain_encoding.features": Row(SAMPLED, "another_image"),
    V + "clip_and_color.features": Row(SAMPLED, "mean"),
    # The others do not run.
    **{
        f"{V}{name}.{key}": Row(WORKED_OUT, value, variants(**{name: {"scale": 1.0}}))
        for name in NUMBERS
        if name.startswith("scale_")
        for key, value in (("source", "stimulus"), ("guidance", "color"))
    },
    V + "scale_*.scale": Row(WORKED_OUT, 100.0),
    V + "scale_*.features": Row(WORKED_OUT, "mean"),
    V + "scale_*": Row(WORKED_OUT),
    V + "color.guidance": Row(WORKED_OUT, "edges"),
    V + "edges.guidance": Row(WORKED_OUT, "color"),
    V + "color.scale": Row(WORKED_OUT, 100.0),
    V + "edges.scale": Row(WORKED_OUT, 100.0),
    V + "color.source": Row(WORKED_OUT, "stimulus"),
    V + "edges.source": Row(WORKED_OUT, "stimulus"),
    V + "color.features": Row(WORKED_OUT, "mean"),
    V + "edges.features": Row(WORKED_OUT, "mean"),
    V + "color.*": Row(WORKED_OUT),
    V + "edges.*": Row(WORKED_OUT),
    V + "*": Row(SAMPLED),  # factors and strengths of what runs with its own or a lent scale
    "reconstruction.*": Row(IMAGES),
    # --- evaluation ---
    "evaluation.networks.lpips.model": Row(
        JUDGES,
        "another",
        zoo(another=ANOTHER | {"loader": "alexnet", "files": {"a.pth": {}}}),
    ),
    "evaluation.networks.lpips.architecture": Row(JUDGES, None),
    "evaluation.networks.efficientnet_lite.model": Row(JUDGES, "swav"),
    "evaluation.networks.efficientnet_lite.architecture": Row(
        JUDGES, "lpips", {"evaluation": {"networks": {"efficientnet_lite": {"model": "alexnet"}}}}
    ),
    "evaluation.networks.lpips.normalisation": Row(JUDGES, "imagenet"),
    "evaluation.networks.efficientnet_lite.normalisation": Row(JUDGES, "clip"),
    "evaluation.networks.lpips.nodes.*": Row(JUDGES, "another"),
    "evaluation.networks.efficientnet_lite.nodes.*": Row(JUDGES, "another"),
    "evaluation.networks.lpips.*": Row(JUDGES),
    "evaluation.networks.efficientnet_lite.*": Row(JUDGES),
    # Networks that no judge uses.
    "evaluation.networks.alexnet.architecture": Row(TOLD, "lpips"),
    **{
        f"evaluation.networks.{name}.architecture": Row(
            TOLD, "lpips", {"evaluation": {"networks": {name: {"model": "alexnet"}}}}
        )
        for name in ("inception", "inception_fid", "clip", "efficientnet", "swav")
    },
    "evaluation.networks.alexnet.model": Row(TOLD, "swav"),
    "evaluation.networks.*.model": Row(TOLD, "alexnet"),
    "evaluation.networks.*.nodes.*": Row(TOLD, "another"),
    "evaluation.networks.clip.normalisation": Row(TOLD, "imagenet"),
    "evaluation.networks.*.normalisation": Row(TOLD, "clip"),
    "evaluation.networks.inception_fid.size": Row(TOLD, 299),
    "evaluation.networks.*": Row(TOLD),
    "evaluation.judges": Row(
        "evaluate_reconstructions summarise_evaluation compare_sweep" + SHOWN,
        [
            {
                "name": name,
                "label": name,
                "network": "efficientnet_lite",
                "node": "early",
                "measure": "identification",
                "level": "early",
            }
            for name in ("lite_early", "lite_middle", "lite_pooled")
        ],
    ),
    "evaluation.first_resize": Row(JUDGES, 48),
    "evaluation.image_size": Row(JUDGES),
    "evaluation.identification": Row("summarise_evaluation compare_sweep" + SHOWN, "takagi"),
    "evaluation.ssim": Row("summarise_evaluation compare_sweep write_gallery" + TOLD, "columns"),
    "evaluation.brain_correlation": Row(
        "summarise_evaluation compare_sweep compare_brain" + SHOWN, "images_per_voxel"
    ),
    "evaluation.missing_weights": Row(NEW_MODEL, "fetch"),
    "evaluation.retrieval.vote": Row("evaluate_retrieval" + TOLD, "sum"),
    "evaluation.retrieval.*": Row("evaluate_retrieval" + TOLD),
    "evaluation.bootstrap.level": Row(INTERVALS + SHOWN),
    "evaluation.bootstrap.*": Row(INTERVALS),
    "evaluation.comparisons.*": Row("summarise_evaluation" + TOLD, "brain_encoding"),
    "evaluation.findings.early": Row("derive_findings" + TOLD, ["lite_early"]),
    "evaluation.findings.late": Row("derive_findings" + TOLD, ["lite_late"]),
    "evaluation.findings.noise_ceiling": Row("derive_findings" + TOLD, [10.0, 40.0]),
    "evaluation.findings.pretraining_gain.direction": Row("derive_findings" + TOLD, "image"),
    "evaluation.findings.pretraining_gain.output": Row("derive_findings" + TOLD, "embedding"),
    "evaluation.findings.pretraining_gain.method": Row("derive_findings" + TOLD, "vote"),
    "evaluation.findings.pretraining_gain.pool": Row("derive_findings" + TOLD, "drawn"),
    "evaluation.findings.*": Row("derive_findings" + TOLD),
    # --- report ---
    "report.title": Row(SHOWN, "Another title"),
    "report.paper_values": Row(SHOWN, "comparable"),
    "report.headline": Row(SHOWN, "unguided"),
    "report.baseline": Row(SHOWN, "guided"),
    "report.controls": Row(SHOWN, ["wrong_image"]),
    "report.upper_bounds": Row(SHOWN, ["ground_truth_guided", "ground_truth_unguided"]),
    "report.metrics": Row(SHOWN, ["pixcorr"]),
    "report.rival_images": Row(SHOWN, "rivals"),
    "report.gallery_variants": Row("make_stimulus_thumbnails" + SHOWN, ["guided"]),
    "report.tile_pixels": Row("make_gallery" + SHOWN),
    "report.gallery_images": Row("make_gallery" + SHOWN),
    "report.thumbnail_pixels": Row("make_thumbnails make_stimulus_thumbnails" + SHOWN),
    "report.enlarged_pixels": Row("make_thumbnails make_stimulus_thumbnails" + SHOWN),
    "report.*": Row(SHOWN),
}


def find_row(key: str) -> Row:
    """What the table says of a dotted key."""
    return next(row for pattern, row in TABLE.items() if fnmatchcase(key, pattern))


def list_leaves(values: Mapping[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of a configuration that holds a value, not a section, and its value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from list_leaves(value, *above, name)
        else:
            yield (*above, name), value


def change(value: Any, row: Row) -> Any:
    """Another value."""
    if row.value is not AUTOMATIC:
        return row.value
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 0.9 * value or 0.1
