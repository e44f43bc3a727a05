"""The examples of docs/extending.md run in the modules that they extend."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from guidance_checks import draw_images, require_exact_gradient, require_separate_images
from tiny_engine import guided_by, in_float32, make_embeddings, make_engine, make_settings

from neuraldiffuser.config import guidance as guidance_settings
from neuraldiffuser.config.decoder import Network
from neuraldiffuser.decoders import backbones
from neuraldiffuser.diffusion.guidance import base as guidance_base
from neuraldiffuser.diffusion.models import load_latent_diffusion
from neuraldiffuser.diffusion.reconstruct import decode_in_parts, reconstruct
from neuraldiffuser.diffusion.schedule import load_scheduler
from neuraldiffuser.evaluation import pixels

WORKFLOW_SCRIPTS = Path(__file__).parents[1] / "workflow_scripts"
PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n\s*```python\n(.*?)```", re.DOTALL)
EXAMPLES = {name: textwrap.dedent(code) for name, code in EXAMPLE.findall(PAGE)}


@pytest.fixture
def run():
    """Runs an example inside a copy of a module's names, so that registries stay as they are."""

    def execute(name, module):
        names = dict(vars(module))
        for registry in {"BACKBONES", "PIXELS"} & names.keys():
            names[registry] = dict(names[registry])
        exec(compile(EXAMPLES[name], f"docs/extending.md: {name}", "exec"), names)
        return names

    return execute


def test_every_example_is_run_here():
    assert set(EXAMPLES) == {
        "guidance_settings",
        "guidance_field",
        "guidance",
        "backbone",
        "metric",
    }


@pytest.fixture
def contrast(run):
    """Builds the example's function around a decoder."""
    settings = run("guidance_settings", guidance_settings)["ContrastSettings"]
    build = run("guidance", guidance_base)["build_contrast"]

    def make(decode, **changes):
        named = SimpleNamespace(contrast=settings(**changes))
        return build(SimpleNamespace(settings=named, decode=decode))

    return make


def test_guidance_example_fits_on_a_page():
    lines = [code.splitlines() for name, code in EXAMPLES.items() if name.startswith("guidance")]
    assert sum(map(len, lines)) < 40


TELL = """
import json
from neuraldiffuser.config.guidance import code_of
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.stages import stage_settings
from neuraldiffuser.identity import code_id

config, told = Config(), {}
for stage, view in (
    ("calibrate_guidance", config.reconstruction.calibrated_variants),
    ("reconstruct_images", config.reconstruction.resolved_variants),
):
    for name, variant in view.items():
        settings = stage_settings(stage, config, {"variant": name})
        told[f"{stage} {name}"] = settings, code_id(stage, *code_of(variant.terms))
print(json.dumps(told))
"""


@pytest.fixture
def library(tmp_path):
    """A copy of scripts and library for a test to change."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(WORKFLOW_SCRIPTS, tmp_path / "workflow_scripts", ignore=ignored)


def tell_jobs(library):
    """Settings and code of every calibration and reconstruction of the default configuration."""
    command = [sys.executable, "-c", TELL]
    environment = os.environ | {"PYTHONPATH": str(library)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout)


def test_guidance_example_leaves_every_variant_that_it_does_not_guide_as_it_was(library):
    before = tell_jobs(library)
    functions = library / "neuraldiffuser/diffusion/guidance"
    (functions / "contrast.py").write_text(EXAMPLES["guidance"])
    settings = library / "neuraldiffuser/config/guidance.py"
    registry, kept = "class GuidanceSettings(Section):", "\n\nclass UsedGuidance("
    with_class = settings.read_text().replace(
        registry, f"{EXAMPLES['guidance_settings']}\n\n{registry}"
    )
    field = textwrap.indent(EXAMPLES["guidance_field"], "    ")
    settings.write_text(with_class.replace(kept, f"{field}{kept}"))
    variants = library / "neuraldiffuser/config/reconstruction.py"
    further = 'FURTHER = {\n    "contrast": Variant(guidance="contrast"),'
    variants.write_text(variants.read_text().replace("FURTHER = {", further))
    after = tell_jobs(library)
    added = {"calibrate_guidance contrast", "reconstruct_images contrast"}
    assert after.keys() - before.keys() == added
    assert {name: after[name] for name in before} == before
    (functions / "contrast.py").write_text(EXAMPLES["guidance"].replace("dim=1", "dim=-3"))
    changed = tell_jobs(library)
    assert {name for name in after if after[name] != changed[name]} == added


def test_code_of_a_function_counts_where_it_guides(library):
    before = tell_jobs(library)
    path = library / "neuraldiffuser/diffusion/guidance/color.py"
    path.write_text(path.read_text() + "\nANOTHER = 1\n")
    after = tell_jobs(library)
    assert {name for name in before if before[name] != after[name]} == {
        "calibrate_guidance color",
        "calibrate_guidance clip_and_color",
        "reconstruct_images color",
        "reconstruct_images clip_and_color",
    }


def test_guidance_example_is_what_it_says(contrast):
    function = contrast(lambda latents: latents, grid=2)
    assert function.targets == ("vae_latent",)
    images, others = draw_images(3, 8, 8, seed=0), draw_images(3, 8, 8, seed=1)
    halves = (slice(0, 4), slice(4, 8))

    def spread(image, part):
        return np.std(image.numpy().mean(axis=0)[part], ddof=1)

    expected = [
        sum((spread(one, part) - spread(other, part)) ** 2 for part in product(halves, halves))
        for one, other in zip(images, others, strict=True)
    ]
    targets = function.prepare({"vae_latent": others})
    assert np.allclose(function(images, targets), expected)
    require_separate_images(function, images, targets)


def test_guidance_example_has_the_gradient_of_its_loss(contrast):
    function = contrast(lambda latents: latents, grid=2)
    images, flat = 3 * draw_images(3, 8, 8, seed=0), torch.zeros(3, 3, 8, 8).double()
    require_exact_gradient(function, images, function.prepare({"vae_latent": flat}))


def test_guidance_example_guides_a_reconstruction(contrast, tmp_path):
    path = tiny_models.write_stable_diffusion(tmp_path / "stable-diffusion")
    model = load_latent_diffusion(path)
    engine = make_engine(model, load_scheduler(path), make_settings())
    embeddings = in_float32(make_embeddings(()))
    embeddings = replace(embeddings, features={"vae_latent": embeddings.latents})
    function = contrast(partial(decode_in_parts, model))
    wanted = function.prepare({"vae_latent": torch.from_numpy(embeddings.latents)})
    losses = []
    for scale in (0.0, 300.0):
        guided = guided_by(function, scale=scale, strength=1.0)
        images = reconstruct(embeddings, engine, repeats=1, guided=guided)[:, 0]
        pixels_first = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
        losses.append(function(pixels_first, wanted))
    unguided, guided = losses
    assert (guided < 0.9 * unguided).all()


def test_backbone_example(run):
    names = run("backbone", backbones)
    backbone = names["BACKBONES"]["linear"](Network(hidden_size=8), (5, 3))
    assert backbone(torch.zeros(2, 8)).shape == (2, 5, 3)


def test_metric_example(run):
    measure = run("metric", pixels)["PIXELS"]["colour_error"]
    assert "colour_error" not in pixels.PIXELS
    stimuli = torch.zeros(2, 1, 3, 4, 4)
    repeats = torch.cat([stimuli, stimuli + 1], dim=1)
    assert measure(pixels.Pairs(stimuli, repeats)).tolist() == [[0, 1], [0, 1]]


def test_paths_of_the_dataset_table_are_those_of_the_library():
    from neuraldiffuser.nsd import files

    betas = "{betas}"
    for path in (
        files.DESIGN,
        files.STIMULUS_INFORMATION,
        files.STIMULI,
        files.CAPTIONS_ARCHIVE,
        files.responses("{subject}"),
        files.region_mask("{subject}", name="nsdgeneral"),
        files.signal_to_noise("{subject}", version=betas),
    ):
        assert f"`{path}`" in PAGE, path


def test_files_that_the_page_names_exist():
    library = Path(pixels.__file__).parents[1]
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|smk|md))`", PAGE):
        places = [library / name, library.parents[1] / name]
        assert any(place.exists() for place in places), f"docs/extending.md names {name}"
