"""Commands that train, in two processes as torchrun starts them: they do what one does with twice the passes."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from io import StringIO
from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from pruning.checkpoint import load_checkpoint, save_checkpoint
from tests.pruning.movement.models import fine_bert
from tests.tiny import tiny_tokenizer
from tests.tools.conftest import write_reviews
from tools.cli import exit_code_from

PROCESSES = 2
DATA = ("my-bert", "--data", "reviews.csv", "--task", "text-classification", "--cpu", "--batch-size", "8", "--json")
MOVEMENT = ("--method", "block-movement", "--density", "0.5", "--block", "4x4", "--score-learning-rate", "0.3")
COMMANDS = {
    "dense": ("finetune", *DATA, "--epochs", "2", "--checkpoint-steps", "3"),
    "filled": ("prune", *DATA, *MOVEMENT, "--epochs", "4", "--fill-epochs", "2"),
    "family": ("prune", *DATA, "--method", "gradual", "--ffn-multiple", "4", "--seq", "16", "--speedups", "1.5,2"),
}
MODELS = ("dense", "filled", "family/1.5x", "family/2x")


def run_all(folder, passes):
    """Every command, with what it says."""
    os.chdir(folder)
    said = []
    for out, command in COMMANDS.items():
        with contextlib.redirect_stdout(StringIO()) as text, contextlib.redirect_stderr(StringIO()) as errors:
            code = exit_code_from([*command, "--accumulate", passes, "--out", out])
        said.append((code, text.getvalue(), errors.getvalue()))
    return said


def run_one(rank, port, folder):
    """What every launched process runs."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()} | {"OMP_NUM_THREADS": "1"})
    (folder / f"said-{rank}.json").write_text(json.dumps(run_all(folder, "1")))
    torch.distributed.destroy_process_group()


@pytest.fixture
def folders(tmp_path):
    """Two alike: a model without dropout, which is drawn by every process, and an even number of batches."""
    for name in ("together", "alone"):
        model = fine_bert()
        model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
        save_checkpoint(model, tiny_tokenizer(), tmp_path / name / "my-bert")
        write_reviews(tmp_path / name / "reviews.csv", rows=160)
    return tmp_path / "together", tmp_path / "alone"


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_twice_the_passes(folders, monkeypatch):
    monkeypatch.chdir(Path.cwd())  # and back at the end
    together, alone = folders
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run_one, (port, together), nprocs=PROCESSES)
    main, other = (json.loads((together / f"said-{rank}.json").read_text()) for rank in range(PROCESSES))
    assert [code for code, *_ in main + other] == [0] * 6, (main, other)
    assert all(json.loads(out) for _, out, _ in main)
    assert all("writing to" in errors for *_, errors in main)
    assert not any(out or "writing to" in errors for _, out, errors in other)
    assert [code for code, *_ in run_all(alone, f"{PROCESSES}")] == [0] * 3
    for name in MODELS:
        found, expected = (load_checkpoint(folder / name).model.state_dict() for folder in (together, alone))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(
                found[key], value, rtol=1e-4, atol=1e-5, msg=lambda text, at=key: f"{at}: {text}"
            )
