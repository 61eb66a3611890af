"""``slimbert prune --method block-movement`` and ``slimbert fill`` from the command line."""

from __future__ import annotations

import json

import pytest

from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model
from tests.pruning.movement.models import fine_bert
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.tables import quiet_table
from tools.console import Steps

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
    report = (fine_project / "small" / "report.html").read_text()
    assert report.count('<svg role="img"') == 3 + 3  # heads, neurons and schedule; the matrices of three layers
    assert "Kept: query" in report
    assert "http" not in report
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


def write_teachers(project):
    """Three that do not fit: another vocabulary, another head, other classes."""
    other = tiny_tokenizer()
    other.add_tokens(["zebra"])
    words = tiny_bert(vocab_size=len(other))
    for name, model, tokenizer in (
        ("words", words, other),
        ("answers", tiny_bert("question-answering"), tiny_tokenizer()),
        ("classes", tiny_bert(num_labels=3), tiny_tokenizer()),
    ):
        save_checkpoint(model, tokenizer, project / name)


def test_speedup_through_a_latency_table(fine_project, slimbert):
    table = quiet_table(fine_project)
    table.save(fine_project / "table.json")
    speed = ("--speedup", "1.7", "--latency-table", "table.json", "--seq", "16")
    code, out, error = slimbert(*PRUNE, *QUICK, "--variant", "hybrid", *speed, "--out", "small", "--json")
    assert code == 0, error
    assert json.loads(out)["record"]["aim"].startswith("time / 1.7 on ort-cpu fp32")
    dense, small = (arch_from_model(load_checkpoint(fine_project / x).model) for x in ("my-bert", "small"))
    prices = table.prices(dense)
    assert prices.total(small) / prices.total(dense) == pytest.approx(1 / 1.7, rel=0.03)


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
        (
            ("--density", "0.5", "--block", "4x4", "--hold", "0.9", "--final-hold", "0.9"),
            "leave no step in which to prune",
        ),
        (("--density", "0.5", "--block", "4x4", "--epochs", "1", "--max-length", "99"), "--max-length must be 2 to 40"),
        (("--density", "0.5", "--teacher", "words"), "--teacher words has another vocabulary than the model"),
        (("--density", "0.5", "--teacher", "answers"), "the teacher's head is question-answering"),
        (("--density", "0.5", "--teacher", "classes"), "the teacher has 3 classes, the student 2"),
        (("--density", "0.5", "--teacher", "nowhere/at/all"), "nowhere/at/all is not a checkpoint folder"),
        (("--density", "1.5"), "density must be"),
        (("--density", "0.5", "--latency-table", "t.json"), "measured prices are for --speedup; got --density"),
    ],
)
def test_bad_input_is_one_line(project, slimbert, arguments, message):
    write_teachers(project)
    code, _, error = slimbert(*PRUNE, *arguments, "--out", "out", "--epochs", "1", "--quiet", "--cpu")
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert not list((project / "out").rglob("checkpoint-*"))


def test_an_encoder_that_is_not_found_is_an_error(project, slimbert):
    config = json.loads((project / "my-bert" / "config.json").read_text())
    changes = ({"model_type": "roberta"}, "model_type 'roberta'"), ({"architectures": ["Other"]}, "architecture Other")
    for change, message in changes:
        (project / "my-bert" / "config.json").write_text(json.dumps(config | change))
        code, _, error = slimbert(*PRUNE, "--density", "0.5", "--out", "out", "--quiet", "--cpu")
        assert (code, message in error, "supported" in error) == (2, True, True), error


def test_a_stopped_run_keeps_its_last_checkpoint_and_continues(fine_project, slimbert, monkeypatch):
    arguments = (*PRUNE, *QUICK, "--variant", "hybrid", "--density", "0.5", "--checkpoint-steps", "1", "--out", "small")
    update = Steps.update

    def stop(self, phase, done, total, what=""):
        if done == 3:
            raise KeyboardInterrupt
        update(self, phase, done, total, what)

    with monkeypatch.context() as patched:
        patched.setattr(Steps, "update", stop)
        code, _, error = slimbert(*arguments, "--quiet")
    assert (code, "what is finished is kept" in error) == (130, True)
    assert (fine_project / "small" / ".training" / "masked" / "checkpoint-2" / "complete").exists()
    code, _, error = slimbert(*arguments, "--resume", "--quiet")
    assert code == 0, error
    code, _, error = slimbert(*arguments[:-1], "spoilt", "--learning-rate", "1e30", "--quiet")
    assert (code, "the loss became" in error) == (2, True)
    assert list((fine_project / "spoilt" / ".training" / "masked").glob("checkpoint-*/complete"))


def test_movement_options_belong_to_their_method(project, slimbert):
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", "--lambda", "3", "--out", "out")
    assert (code, "--lambda is not an option of --method oneshot" in error) == (2, True)
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", "--method", "fishy", "--out", "out")
    assert (code, "--method 'fishy' is unknown; known: oneshot" in error) == (2, True)
    code, _, error = slimbert(*PRUNE[:4], "--data", "reviews.csv", "--out", "out")
    assert (code, "pass --task" in error) == (2, True)
