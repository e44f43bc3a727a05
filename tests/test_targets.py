"""Each table and figure is a target of its own, by the name under which the paper knows it."""

import pytest
from workflow import CORRECTED, MINIATURE, World

from neuraldiffuser.reporting.catalogue import FIGURES, TABLES


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, overlays=(CORRECTED, MINIATURE))


def test_every_table_and_figure_is_a_target(world):
    answer = world.dry_run(*TABLES, *FIGURES, "--quiet", "rules")
    assert answer.succeeded, answer.text[-3000:]
    assert {*TABLES, *FIGURES, "make_table", "make_figure"} <= answer.rules_to_run
    assert "write_report" not in answer.rules_to_run


def test_a_target_runs_what_it_needs_and_nothing_else(world):
    planned = world.dry_run("figure5", "--quiet", "rules").rules_to_run
    assert {"figure5", "make_figure", "evaluate_decoding", "finetune_decoder"} <= planned
    assert not {"reconstruct_images", "train_encoder", "make_table"} & planned
