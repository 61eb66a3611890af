"""Two processes, as accelerate and torchrun launch them: one pruner each, and the same decisions in both."""

from __future__ import annotations

import json
import os
import socket

import pytest
import torch
from torch import multiprocessing
from transformers import TrainingArguments

from pruning.movement.layers import masks_of
from pruning.movement.pruner import attach
from pruning.movement.schedule import Schedule
from pruning.movement.training import MovementTrainer
from tests.pruning.movement.models import fine_bert, spec, weights_target
from tests.tiny import tiny_batch

PROCESSES, STEPS = 2, 6


def rows():
    """Eight labelled rows of one length."""
    batch = tiny_batch(rows=8, padding="none")
    return [{name: x[row] for name, x in batch.items()} | {"labels": torch.tensor(row % 2)} for row in range(8)]


class Watched(MovementTrainer):
    """Remembers which rows it was given."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def training_step(self, model, inputs, *args):
        self.seen.append(inputs["input_ids"].tolist())
        return super().training_step(model, inputs, *args)


def train_one(rank, port, folder):
    """What every launched process runs."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": PROCESSES, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    model = fine_bert()
    pruner = attach(model, spec(), Schedule(STEPS, 0, 2), weights_target(0.5))
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=1,
        learning_rate=1e-3,
        use_cpu=True,
        ddp_backend="gloo",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = Watched(model, arguments, train_dataset=rows(), pruner=pruner, score_learning_rate=0.3)
    trainer.train()
    pruner.finish()
    found = {
        "processes": arguments.world_size,
        "seen": trainer.seen,
        "scores": [mask.scores.tolist() for mask in masks_of(pruner.layers)],
        "history": [str(record) for record in pruner.history],
        "heads": pruner.census().heads,
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes_share_gradients_and_take_the_same_decisions(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train_one, (port, tmp_path), nprocs=PROCESSES)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(PROCESSES))
    assert first["processes"] == PROCESSES
    assert first["seen"] != second["seen"]  # each process has rows of its own
    for name in ("scores", "history", "heads"):
        assert first[name] == second[name], name
    assert len({str(score) for score in first["scores"]}) > 1
