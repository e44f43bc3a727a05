"""The zoo refuses what cannot be fetched or loaded, and tells which models are in use."""

import re

import pytest
import yaml
from snakemake.utils import update_config

from neuraldiffuser.config.documents import REPOSITORY
from neuraldiffuser.config.evaluation import Evaluation
from neuraldiffuser.config.guidance import ColorSettings, Needs
from neuraldiffuser.config.models import FILES_OF_LOADERS, PretrainedModel
from neuraldiffuser.config.root import Config
from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import ConfigError

FILE = {"weights.pth": {}}


def describe(**changes):
    return {"role": "judge", "licence": "MIT", "loader": "alexnet", "files": FILE} | changes


def test_a_model_that_guides_what_runs_is_in_use(monkeypatch):
    def needs(*_arguments):
        return Needs(models={"seer": "swav"})

    monkeypatch.setattr(ColorSettings, "needs", needs)
    for run, used in (("guided", False), ("clip_and_color", True)):
        config = Config()
        judged = config.evaluation.model_copy(update={"networks": {}, "judges": ()})
        ran = config.reconstruction.model_copy(update={"run": (run,)})
        config = config.model_copy(update={"evaluation": judged, "reconstruction": ran})
        assert ("swav" in config.used_models) is used


def refusal(models=None, **others):
    with pytest.raises(ConfigError) as error:
        validate({"models": models or {}} | others)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "hf://org/repo"}, "models.zoo.mine.source: expected hf://organisation/"),
        ({"source": "models/"}, "expected hf://organisation/repository@revision, the https://"),
        ({"source": "ftp://host/folder"}, "(folder names a copy of your own)"),
        ({"source": "https://me:secret@host/folder"}, "expected hf://organisation/"),
        (
            {"source": "package://some", "loader": "gnet"},
            "the loader gnet cannot read from a Python package; name the folder of the files",
        ),
        (
            {
                "source": "package://some",
                "loader": "open_clip",
                "files": dict.fromkeys(FILES_OF_LOADERS["open_clip"], {}),
            },
            "the loader open_clip cannot read from a Python package; name the folder of the files",
        ),
        ({"loader": "keras"}, "loader is 'keras': input should be 'stable_diffusion', "),
        ({"files": {"w.pth": {"sha256": "abc"}}}, "sha256 is 'abc': string should match pattern"),
        ({"files": {"w.pth": {"md5": "abc"}}}, "unknown key models.zoo.mine.files.w.pth.md5"),
        ({"files": {"../w.pth": {}}}, "../w.pth must be a plain path inside the model's folder"),
        ({"files": {"/w.pth": {}}}, "/w.pth must be a plain path inside the model's folder"),
        (
            {"files": {"a.pth": {}, "b.pth": {}}},
            "the loader alexnet reads one file, but files lists 2; list only that one",
        ),
        (
            {"loader": "open_clip"},
            "files lacks open_clip_config.json, which the loader open_clip reads",
        ),
        (
            {"loader": "stable_diffusion", "files": {"vae/config.json": {}}},
            "files lacks scheduler/scheduler_config.json, which the loader stable_diffusion reads",
        ),
    ],
)
def test_a_model_that_could_not_be_read_is_refused(changes, sentence):
    told = refusal({"zoo": {"mine": describe(**changes)}})
    assert sentence in told
    assert "secret" not in told


def test_a_name_is_that_of_a_folder():
    sentence = "a/b is no name of a model; use letters, digits, hyphens and underscores"
    assert sentence in refusal({"zoo": {"a/b": describe()}})


def test_parts_are_played_by_models_that_exist_and_fit():
    assert refusal({"stable_diffusion": "sd2"}).startswith(
        "config: models: models.stable_diffusion names sd2, which models.zoo does not hold; known "
        "models are stable-diffusion-v1-4, "
    )
    assert refusal({"clip_image": "alexnet"}) == (
        "config: models: models.clip_image names alexnet, whose loader is alexnet; choose a model "
        "whose loader is open_clip."
    )
    assert refusal({"low_level_teacher": "gnet"}).endswith("whose loader is vicregl_convnext.")
    told = refusal({"image_variations_autoencoder": "alexnet"})
    assert told.endswith("choose a model whose loader is autoencoder or stable_diffusion.")


def test_judges_are_models_that_can_judge():
    networks = Evaluation().model_dump()["networks"]
    networks["swav"]["model"] = "gnet"
    assert refusal(evaluation={"networks": networks}).startswith(
        "config: evaluation.networks.swav.model names gnet, whose loader is gnet; choose a model "
        "whose loader is alexnet or inception_v3 or "
    )
    networks["swav"]["model"] = "resnet"
    told = refusal(evaluation={"networks": networks})
    assert "evaluation.networks.swav.model names resnet, which models.zoo does not hold" in told


@pytest.mark.parametrize(
    ("changes", "is_fetched", "is_packaged"),
    [
        ({}, False, False),
        ({"source": "https://host/folder"}, True, False),
        ({"source": "hf://datasets/org/repo@main"}, True, False),
        ({"source": "s3://bucket/folder/"}, True, False),
        ({"source": "hf://org/repo@refs/pr/3"}, True, False),
        ({"source": "package://module"}, False, True),
        ({"source": "package://module.part"}, False, True),
        ({"source": "https://host/folder", "folder": "mine"}, False, False),
        ({"source": "package://module", "folder": "mine"}, False, False),
    ],
)
def test_what_is_fetched_is_what_has_a_source_and_no_folder_of_ones_own(
    changes, is_fetched, is_packaged
):
    model = PretrainedModel(**describe(**changes))
    assert (model.is_fetched, model.is_packaged) == (is_fetched, is_packaged)
    assert not model.source.endswith("/")


def test_only_models_that_the_experiment_reads_are_in_use():
    names = list(Config().used_models)
    assert names == [name for name in Config().models.zoo if name != "gnet"]
    corrected = {"targets": {"vae_latent": {"autoencoder": "stable_diffusion"}}}
    assert "sd-image-variations-vae" not in validate(corrected).used_models
    assert "gnet" in validate({"encoding": {"source": "released"}}).used_models
    for teacher in ("autoencoder", "none"):
        taught = validate({"decoder": {"low_level": {"teacher": teacher}}})
        assert "vicregl-convnext-xl" not in taught.used_models
    alone = {"findings": {"early": [], "late": []}, "judges": [judge("alexnet", "layer_2")]}
    assert "swav" not in validate({"evaluation": alone}).used_models


def judge(network, node):
    described = {"name": "one", "label": "One", "measure": "identification", "level": "early"}
    return described | {"network": network, "node": node}


def test_loaders_of_folders_read_nothing_that_could_run_code():
    files = {file for files in FILES_OF_LOADERS.values() for file in files}
    assert {file.rpartition(".")[2] for file in files} == {"json", "txt", "safetensors"}


def test_the_miniature_pins_everything_and_fetches_nothing():
    overlay = yaml.safe_load((REPOSITORY / "config/mini.yaml").read_text())
    for model in map(PretrainedModel.model_validate, overlay["models"]["zoo"].values()):
        assert not model.is_fetched
        assert all(pin.size and pin.sha256 for pin in model.files.values())


def test_the_examples_of_the_page_are_valid():
    page = (REPOSITORY / "docs/models.md").read_text()
    blocks = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    examples = [yaml.safe_load(block) for block in blocks if "..." not in block]
    assert len(examples) >= 2
    for example in examples:
        whole = Config().model_dump(mode="json")
        update_config(whole, example)
        assert validate(whole) != Config()


def test_the_page_lists_every_model():
    page = (REPOSITORY / "docs/models.md").read_text()
    assert all(f"`{name}`" in page for name in Config().models.zoo)
