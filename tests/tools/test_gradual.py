"""``slimbert prune --method gradual``: a family from one run, and the same family after a stop."""

import json

import pytest
import torch

from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model
from pruning.methods import gradual
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import write_reviews
from tests.tools.tables import quiet_table
from tools.console import Steps

BASE = ("prune", "my-bert", "--data", "reviews.csv", "--method", "gradual", "--ffn-multiple", "4", "--seq", "16")
FAMILY = (*BASE, "--speedups", "1.5,2", "--batch-size", "8", "--cpu", "--json")


@pytest.fixture
def reviews(project):
    write_reviews(project / "reviews.csv", rows=120)
    return project


def weights(folder):
    return load_checkpoint(folder).model.state_dict()


def test_a_family_is_pruned_trained_and_scored(slimbert, reviews):
    code, out, error = slimbert(*FAMILY, "--task", "text-classification", "--out", "family")
    assert code == 0, error
    facts = json.loads(out)
    assert [x["name"] for x in facts["models"]] == ["1.5x", "2x"]
    dense = arch_from_model(load_checkpoint("my-bert").model).encoder_flops(16, first_token=True)
    for x, speedup in zip(facts["models"], (1.5, 2.0), strict=True):
        left = arch_from_model(load_checkpoint(x["checkpoint"]).model).encoder_flops(16, first_token=True)
        assert x["flops_ratio"] == pytest.approx(dense / left)
        assert x["flops_ratio"] >= speedup
        assert x["steps"] == 8
        assert x["metric"]["n"] == facts["baseline"]["metric"]["n"] == 24
    assert json.loads((reviews / "family" / "prune.json").read_text()) == facts


def test_progress_is_one_phase_per_round_however_many_steps_it_trains(slimbert, reviews, monkeypatch):
    phases = set()
    monkeypatch.setattr(Steps, "update", lambda _self, phase, *_rest: phases.add(phase))
    code, _, error = slimbert(*FAMILY, "--out", "family")
    assert code == 0, error
    assert {phase for phase in phases if "train" in phase} == {"1.5x: train", "2x: train"}


def test_a_stopped_family_ends_like_an_undisturbed_one(slimbert, reviews, monkeypatch):
    assert slimbert(*FAMILY, "--out", "whole")[0] == 0
    train = gradual.train

    def stop(model, *arguments, **options):
        if len(list((reviews / "stopped").glob("1.5x"))) == 1:
            raise KeyboardInterrupt
        return train(model, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(gradual, "train", stop)
        assert slimbert(*FAMILY, "--out", "stopped")[0] == 130
    assert not (reviews / "stopped" / "2x").exists()
    assert "already holds this gradual run. Pass --resume" in slimbert(*FAMILY, "--out", "stopped")[2]
    code, _, error = slimbert(*FAMILY, "--out", "stopped", "--resume")
    assert code == 0, error
    for name in ("1.5x", "2x"):
        expected = weights(f"whole/{name}")
        assert all(torch.equal(value, expected[key]) for key, value in weights(f"stopped/{name}").items())


def test_a_family_is_extended_by_further_speedups(slimbert, reviews):
    command = (*BASE, "--batch-size", "8", "--cpu", "--json", "--out", "family")
    assert slimbert(*command, "--speedup", "1.5")[0] == 0
    first = weights("family/1.5x")
    code, out, error = slimbert(*command, "--speedups", "1.5,2", "--resume")
    assert code == 0, error
    assert [x["name"] for x in json.loads(out)["models"]] == ["1.5x", "2x"]
    assert all(torch.equal(value, first[key]) for key, value in weights("family/1.5x").items())
    assert "other settings (rounds)" in slimbert(*command, "--speedups", "1.7,2", "--resume")[2]


def test_in_measured_time_and_with_one_speedup(slimbert, reviews):
    table = quiet_table(reviews)
    table.save(reviews / "table.json")
    code, out, error = slimbert(*BASE, "--speedup", "1.6", "--latency-table", "table.json", "--out", "one")
    assert code == 0, error
    assert out.startswith("1.6x: ")
    dense, small = (arch_from_model(load_checkpoint(reviews / x).model) for x in ("my-bert", "one/1.6x"))
    assert table.prices(dense).total(small) <= table.prices(dense).total(dense) / 1.6


def test_training_that_did_harm_is_said(slimbert, reviews):
    code, out, error = slimbert(*BASE, "--speedup", "1.5", "--learning-rate", "3", "--cpu", "--out", "wild")
    assert code == 0, error
    assert "(training did harm and was taken back: train on more texts or at a lower rate)" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "gradual takes --speedups, such as 1.5,2,3, or a single --speedup"),
        (("--speedup", "2", "--speedups", "2,3"), "Pass one of them"),
        (("--speedups", "3,2"), "rising numbers of at least 1, such as 1.5,2,3; got 3,2"),
        (("--speedups", "0.5,2"), "rising numbers of at least 1"),
        (("--speedups", "2,5000"), "at most"),
        (("--speedups", "2", "--density", "0.5"), "--density is not an option of --method gradual"),
        (("--speedups", "2", "--block", "8x8"), "--block is not an option of --method gradual"),
        (("--speedups", "2", "--learning-rate", "0"), "learning_rate must be above 0"),
        (("--speedups", "2", "--task", "question-answering"), "needs a model with a question-answering head"),
        (("--speedups", "2", "--teacher", "other"), "has another vocabulary"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(slimbert, reviews, arguments, message):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["wug"])
    save_checkpoint(tiny_bert(vocab_size=len(tokenizer)), tokenizer, reviews / "other")
    code, _, error = slimbert(*BASE, *arguments, "--out", "family")
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (reviews / "family").exists()


def test_speedups_are_for_gradual(slimbert, reviews):
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", "--speedups", "2", "--out", "small")
    assert (code, "--speedups is not an option of --method oneshot" in error) == (2, True), error
