"""The examples of docs/extending.md run in the modules that they extend."""

import re
import textwrap
from pathlib import Path

import pytest
import torch

from neuraldiffuser.config.decoder import Network
from neuraldiffuser.decoders import backbones
from neuraldiffuser.diffusion import guidance
from neuraldiffuser.evaluation import pixels

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"<!-- example: (\w+) -->\n\s*```python\n(.*?)```", re.DOTALL)
EXAMPLES = {name: textwrap.dedent(code) for name, code in EXAMPLE.findall(PAGE)}


@pytest.fixture
def run():
    """Runs an example inside a copy of a module's names, so that registries stay as they are."""

    def execute(name, module):
        names = dict(vars(module))
        for registry in ("GUIDANCE", "BACKBONES"):
            if registry in names:
                names[registry] = dict(names[registry])
        exec(compile(EXAMPLES[name], f"docs/extending.md: {name}", "exec"), names)
        return names

    return execute


def test_every_example_is_run_here():
    assert set(EXAMPLES) == {"guidance", "backbone", "metric"}


def test_guidance_example(run):
    names = run("guidance", guidance)
    assert "clip_direction" in names["GUIDANCE"]
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = lambda batch: {2: batch[:, :, :4], 4: batch[:, :, 4:] + 1}  # noqa: E731
    guide = names["ClipDirectionGuidance"](
        network, layers=(2, 4), loss="sum_squares", weights=(1, 1)
    )
    own = {"clip_image_02": images[:, :, :4], "clip_image_04": images[:, :, 4:] + 1}
    torch.testing.assert_close(guide(images, own), torch.zeros(3), atol=1e-5, rtol=0)
    others = {name: layer.roll(1, 0) for name, layer in own.items()}
    assert (guide(images, others) > 0.01).all()


def test_backbone_example(run):
    names = run("backbone", backbones)
    backbone = names["BACKBONES"]["linear"](Network(hidden_size=8), (5, 3))
    assert backbone(torch.zeros(2, 8)).shape == (2, 5, 3)


def test_metric_example(run):
    names = run("metric", pixels)
    black, white = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert names["colour_error"](black, black).tolist() == [0, 0]
    assert names["colour_error"](black, white).tolist() == [1, 1]


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
    library = Path(guidance.__file__).parents[1]
    for name in re.findall(r"`((?:\w+/)+\w+\.(?:py|smk|md))`", PAGE):
        places = [library / name, library.parents[1] / name]
        assert any(place.exists() for place in places), f"docs/extending.md names {name}"
