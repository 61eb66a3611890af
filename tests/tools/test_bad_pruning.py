"""What pruning cannot work with, from the command line: one line that names it, or a warning and a result."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import WORDS

PRUNE = ("prune", "my-bert", "--data", "texts.csv", "--speedup", "1.5", "--seq", "16", "--out", "small")
RUN = (
    "run",
    "my-bert",
    "--task",
    "text-classification",
    "--data",
    "reviews.csv",
    "--seq",
    "16",
    "--max-length",
    "16",
    "--out",
    "out",
)
FINE = ("--ffn-multiple", "4", "--json")


def write_texts(texts):
    with open("texts.csv", "w", newline="", encoding="utf-8") as file:  # noqa: PTH123  # a name in the current folder
        csv.writer(file).writerows([["text"], *([text] for text in texts)])


def edit_weights(project, change):
    path = project / "my-bert" / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "empty"),
        (["  ", "   ", "\t"] * 9, "texts.csv is empty: it has a header but no rows"),
        (["a good cat", "a bad dog"] * 20, "calibration needs at least 12 different texts; got 2"),
    ],
)
def test_too_little_text_is_refused(slimbert, project, texts, message):
    write_texts(texts)
    code, _, error = slimbert(*PRUNE)
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (project / "small").exists()


@pytest.mark.parametrize("method", [(), ("--method", "gradual")])
def test_texts_longer_than_the_model_can_read_are_not_asked_for(slimbert, project, method):
    code, _, error = slimbert("prune", "my-bert", "--data", "reviews.csv", *PRUNE[4:], *method, "--max-length", "41")
    assert (code, "--max-length must be 2 to 40, the positions of the model; got 41" in error) == (2, True), error
    assert not (project / "small").exists()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (WORDS.split(), "calibration texts have 1.0 tokens on average: too short"),
        ([f"wug{i} blick{i} dax{i} cat" for i in range(24)], "75% of the calibration tokens are not in the vocabulary"),
    ],
)
def test_text_that_says_little_is_used_with_a_warning(slimbert, project, texts, message):
    write_texts(texts)
    code, out, error = slimbert(*PRUNE, *FINE)
    assert (code, message in error) == (0, True), error
    assert any(message in warning for warning in json.loads(out)["warnings"])


def silent_ffn(tensors):
    """Neurons of layer 1 that never say anything: their covariance is 0."""
    for part in ("weight", "bias"):
        tensors[f"bert.encoder.layer.1.intermediate.dense.{part}"].zero_()


def equal_heads(tensors):
    """Heads of layer 0 that all say the same: their covariance is singular."""
    for part in ("weight", "bias"):
        rows = tensors[f"bert.encoder.layer.0.attention.self.value.{part}"]
        rows[4:] = rows[:4].repeat(3, *[1] * (rows.dim() - 1))


@pytest.mark.parametrize("change", [silent_ffn, equal_heads])
@pytest.mark.parametrize("method", ["oneshot", "fisher"])
def test_singular_statistics_are_no_obstacle(slimbert, project, change, method):
    edit_weights(project, change)
    texts = [" ".join(WORDS.split()[i : i + 6]) for i in range(20)]
    write_texts(texts)
    code, out, error = slimbert(*PRUNE, *FINE, "--method", method)
    assert code == 0, error
    assert json.loads(out)["divergence"] >= 0
    assert all(torch.isfinite(x).all() for x in load_file(project / "small" / "model.safetensors").values())


@pytest.mark.parametrize(
    ("name", "culprit"),
    [
        ("bert.encoder.layer.1.output.dense.weight", "FFN of layer 1"),
        ("bert.encoder.layer.2.attention.output.dense.weight", "attention of layer 2"),
    ],
)
def test_what_overflows_on_the_way_is_named(slimbert, project, name, culprit):
    edit_weights(project, lambda tensors: tensors[name].mul_(1e38))
    write_texts([" ".join(WORDS.split()[i : i + 6]) for i in range(20)])
    code, _, error = slimbert(*PRUNE)
    assert (code, f"{culprit}: the calibration statistics are not finite" in error) == (2, True), error
    assert "Traceback" not in error
    assert not (project / "small").exists()


@pytest.mark.parametrize("command", [PRUNE, RUN])
def test_a_budget_that_leaves_nothing_is_refused_with_what_can_be_reached(slimbert, project, command):
    write_texts([" ".join(WORDS.split()[i : i + 6]) for i in range(20)])
    code, _, error = slimbert(*command, "--speedup", "1000", "--method", "drop")
    message = "leaves no head and no neuron in any layer. Ask for less: at most"
    assert (code, message in error) == (2, True), error
    assert "Traceback" not in error
