"""``slimbert prune --method block-movement`` and ``slimbert fill`` from the command line."""

from __future__ import annotations

import json

import pytest

from pruning.checkpoint import save_checkpoint
from tests.pruning.movement.models import fine_bert
from tests.tiny import tiny_tokenizer

PRUNE = ("prune", "my-bert", "--method", "block-movement", "--task", "text-classification", "--data", "reviews.csv")
QUICK = ("--block", "4x4", "--epochs", "3", "--score-learning-rate", "0.3", "--max-length", "16", "--cpu")


@pytest.fixture
def fine_project(project):
    """A project whose model has units small enough for any target."""
    save_checkpoint(fine_bert(), tiny_tokenizer(), project / "my-bert")
    return project


def test_prune_then_fill(fine_project, slimbert):
    arguments = (*PRUNE, *QUICK, "--variant", "hybrid", "--density", "0.5", "--out", "small")
    code, out, error = slimbert(*arguments, "--json")
    assert code == 0, error
    facts = json.loads(out)
    assert facts["record"]["density"] == pytest.approx(0.5, rel=0.03)
    kept = facts["candidate"]["encoder_linear_params"] / facts["dense"]["encoder_linear_params"]
    assert kept == pytest.approx(0.5, rel=0.03)
    history = json.loads((fine_project / "small" / "movement.json").read_text())["history"]
    assert {"step", "threshold", "penalty_lambda", "density", "heads", "neurons"} <= set(history[-1])
    assert not (fine_project / "small" / ".training").exists()
    assert json.loads(slimbert(*arguments, "--resume", "--json")[1]) == facts
    filled = ("--task", "text-classification", "--data", "reviews.csv", "--teacher", "my-bert", "--epochs", "1")
    code, out, error = slimbert("fill", "small", *filled, "--out", "filled", "--json", "--cpu", "--max-length", "16")
    assert code == 0, error
    facts = json.loads(out)
    assert facts["filled_weights"] > 0
    assert facts["candidate"]["arch"] == facts["unfilled"]["arch"]


def test_params_speedup_and_lambda_are_aims_too(fine_project, slimbert):
    for aim, out in (("--speedup", "2"), ("--lambda", "50")):
        code, _, error = slimbert(*PRUNE, *QUICK, "--variant", "struct", aim, out, "--out", f"out{out}")
        assert code == 0, error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one of --density, --params, --bytes, --speedup and --lambda; got none"),
        (("--density", "0.5", "--lambda", "3"), "got --density and --lambda"),
        (("--density", "0.5", "--variant", "hybird"), "hybrid-filled"),
        (("--density", "0.5", "--block", "5x4"), "blocks of 5x4 do not divide"),
        (("--density", "0.5", "--block", "five"), "--block takes ROWSxCOLUMNS such as 32x32; got 'five'"),
        (("--density", "0.5", "--calibration", "9"), "--calibration is not an option of --method block-movement"),
        (("--speedup", "2", "--variant", "block", "--block", "4x4"), "its only target is --density"),
        (("--density", "0.5", "--rewind", "my-bert"), "no record of block movement pruning"),
        (("--density", "0.01", "--block", "4x4", "--floor-heads", "4"), "floors and kept heads hold"),
    ],
)
def test_bad_input_is_one_line(project, slimbert, arguments, message):
    code, _, error = slimbert(*PRUNE, *arguments, "--out", "out", "--epochs", "1", "--quiet", "--cpu")
    assert code == 2
    assert message in error
    assert "Traceback" not in error


def test_movement_options_belong_to_their_method(project, slimbert):
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", "--lambda", "3", "--out", "out")
    assert (code, "--lambda is not an option of --method oneshot" in error) == (2, True)
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", "--method", "fishy", "--out", "out")
    assert (code, "--method 'fishy' is unknown; known: oneshot" in error) == (2, True)
    code, _, error = slimbert(*PRUNE[:4], "--data", "reviews.csv", "--out", "out")
    assert (code, "pass --task" in error) == (2, True)
