"""A tiny project on disk: a checkpoint, a data file, and a run that takes seconds."""

from __future__ import annotations

import csv
import random

import pytest

from pruning.checkpoint import save_checkpoint
from tests.tiny import WORDS, tiny_bert, tiny_tokenizer
from tools.cli import exit_code_from
from tools.console import mode


def write_reviews(path, rows=60, seed=0):
    """Sentences of four to eight known words; the label says whether "good" is among them."""
    generator = random.Random(seed)
    words = WORDS.split()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(rows):
            text = generator.sample(words, generator.randint(4, 8))
            writer.writerow([" ".join(text), int("good" in text)])


@pytest.fixture(autouse=True)
def loud(monkeypatch):
    """A test that calls a part of the command line alone is not to inherit the --quiet of the one before."""
    monkeypatch.setattr(mode, "quiet", False)
    monkeypatch.setattr(mode, "as_json", False)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The current folder holds ``my-bert`` and ``reviews.csv``."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tiny_bert(), tiny_tokenizer(), tmp_path / "my-bert")
    write_reviews(tmp_path / "reviews.csv")
    return tmp_path


@pytest.fixture
def slimbert(capsys):
    """Call the command line: returns exit code, standard output and standard error."""

    def call(*arguments):
        capsys.readouterr()
        code = exit_code_from([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


PLAIN = ("--dtype", "fp32", "--dialect", "standard")
"""Nothing whose choice is measured."""
QUICK = (
    *PLAIN,
    "--ffn-multiple",
    "4",
    "--seq",
    "16",
    "--blocks",
    "2",
    "--warmup-seconds",
    "0.001",
    "--max-length",
    "16",
)
FULL_QUICK = QUICK[len(PLAIN) :]
RUN = ("run", "my-bert", "--task", "text-classification", "--data", "reviews.csv", "--speedup", "2", *QUICK)
