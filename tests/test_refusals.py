"""What the workflow refuses before it starts anything, in one sentence."""

import pytest
from workflow import CORRECTED, MINIATURE, World


@pytest.fixture
def nsd(tmp_path):
    """The paper's experiment, with no data at all."""
    return World(tmp_path, overlays=())


def test_the_whole_experiment_is_planned_without_data(nsd):
    answer = nsd.dry_run("--quiet", "rules")
    assert answer.succeeded, answer.text[-3000:]
    assert "reconstruct_images" in answer.text


def test_without_accepted_terms_nothing_is_fetched(nsd):
    answer = nsd.snakemake()
    assert not answer.succeeded
    assert "The NSD data access agreement has not been accepted" in answer.text
    assert "GB of betas (the nsdgeneral voxels alone)" in answer.text
    assert "make demo" in answer.text
    assert not list((nsd.folder / "data").rglob("*.hdf5"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"experimnt": "x"}, "unknown key experimnt; did you mean experiment?"),
        ({"subjects": ["subj09"]}, "subjects names subj09, which has no sessions in nsd.sessions"),
        ({"seed": "many"}, "seed is 'many': input should be a valid integer"),
        (
            {"reconstruction": {"run": ["guidedd"]}},
            "run names guidedd; known variants are guided, ",
        ),
    ],
)
def test_mistakes_in_the_configuration_are_one_sentence(tmp_path, changes, sentence):
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE))
    answer = world.dry_run(changes=changes)
    assert not answer.succeeded
    assert sentence in answer.text
    assert "Traceback" not in answer.text


def test_a_target_that_does_not_exist_is_named(tmp_path):
    world = World(tmp_path, overlays=(CORRECTED, MINIATURE))
    answer = world.dry_run("results/mini/targets/clip_image_99.h5")
    assert not answer.succeeded
    assert "clip_image_99" in answer.text
