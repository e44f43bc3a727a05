"""Settings of the evaluation contradict themselves only with a sentence."""

import pytest
from pydantic import ValidationError

from neuraldiffuser.config.evaluation import Evaluation


def refusal(**changes):
    with pytest.raises(ValidationError) as error:
        Evaluation.model_validate(Evaluation().model_dump() | changes)
    return error.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_the_defaults_are_consistent():
    assert Evaluation.model_validate(Evaluation().model_dump()) == Evaluation()


def test_a_judge_on_an_unknown_network_is_refused():
    judge = Evaluation().judges[0].model_dump()
    message = refusal(judges=[judge | {"network": "alexnett"}])
    assert message.startswith("the judge alexnet2 uses the network alexnett; known networks are ")


def test_a_judge_on_an_unknown_node_is_refused():
    judge = Evaluation().judges[0].model_dump()
    assert refusal(judges=[judge | {"node": "layer_9"}]) == (
        "the judge alexnet2 uses the node layer_9 of alexnet; its nodes are layer_2, layer_5"
    )


def test_two_judges_of_one_name_are_refused():
    judges = [judge.model_dump() for judge in Evaluation().judges]
    assert refusal(judges=[*judges, judges[0]]) == (
        "judges holds alexnet2 twice; give each judge its own name"
    )


def test_findings_name_judges_that_identify():
    assert refusal(findings={"early": ["effnet"]}) == (
        "findings names effnet; choose among the judges that measure identification: "
        "alexnet2, alexnet5, inception, clip"
    )


def test_measuring_depends_only_on_the_networks_that_judge():
    settings = Evaluation()
    alone = settings.model_copy(update={"judges": settings.judges[:2]})
    assert list(alone.measures.networks) == ["alexnet"]
    assert alone.measures.image_size == settings.image_size


def test_conventions_reach_the_tables_and_not_what_is_measured():
    settings = Evaluation()
    changed = settings.model_copy(
        update={
            "identification": "mindeye",
            "ssim": "columns",
            "brain_correlation": "images_per_voxel",
        }
    )
    assert changed.measures == settings.measures
    assert changed.conventions != settings.conventions
    assert changed.conventions.ssim == "columns"


def test_a_judge_named_like_a_convention_is_refused():
    judge = Evaluation().judges[0].model_dump()
    assert refusal(judges=[judge | {"name": "eye_takagi"}]) == (
        "judges holds eye_takagi, whose ending is that of a convention; give it another name, "
        "because every convention is measured and adds its own ending"
    )
