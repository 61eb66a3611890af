"""What masks cost: time and peak memory of a training step of a masked model against the dense one.

python benchmarks/movement_step.py MODEL --out docs/results/movement-step.md
"""

from __future__ import annotations

import argparse
import copy
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from bench.environment import environment_from_machine
from pruning.atomic import write_text
from pruning.checkpoint import load_checkpoint
from pruning.movement.names import Variant
from pruning.movement.pruner import PaperAim, attach
from pruning.movement.schedule import Schedule
from pruning.movement.spec import movement_spec
from pruning.movement.training import parameter_groups

BATCH, SEQUENCE, WARMUP = 32, 64, 2
DENSE = "dense"


class Training:
    """One model and its optimiser; `step` is one optimiser step on the same batch."""

    def __init__(self, model: PreTrainedModel, variant: str) -> None:
        self.model = copy.deepcopy(model).train()
        self.pruner = None
        groups = [{"params": list(self.model.parameters())}]
        if variant != DENSE:
            schedule = Schedule(1000, 0, 1)
            self.pruner = attach(self.model, movement_spec(Variant(variant)), schedule, PaperAim(10.0))
            groups = parameter_groups(self.model, self.pruner)
        self.optimiser = torch.optim.AdamW(groups, lr=3e-5)
        ids = torch.randint(1000, 20000, (BATCH, SEQUENCE))
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(BATCH) % 2}

    def step(self, number: int) -> float:
        """Seconds of step ``number``."""
        start = time.perf_counter()
        if self.pruner is not None:
            self.pruner.step(number)
        loss = self.model(**self.batch).loss
        if self.pruner is not None:
            loss = loss + self.pruner.penalty()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.perf_counter() - start


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # child process: one variant, print its peak bytes
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak_of:
        training = Training(load_checkpoint(options.model).model, options.peak_of)
        for number in range(3):
            training.step(number)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    text = report(options.model, options.rounds)
    print(text)
    if options.out is not None:
        write_text(options.out, text)


def report(model: str, rounds: int) -> str:
    """The table as Markdown; steps are interleaved, ratios are paired within a round."""
    dense = load_checkpoint(model).model
    trainings = {name: Training(dense, name) for name in (DENSE, *Variant)}
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for number in range(WARMUP + rounds):
        for name, training in trainings.items():
            taken = training.step(500 + number)
            if number >= WARMUP:
                seconds[name].append(taken)
    peaks = {name: peak_bytes(model, name) for name in trainings}
    lines = ["| model | step, median | against dense | peak memory | against dense |", "|---|---:|---:|---:|---:|"]
    for name, taken in seconds.items():
        ratios = sorted(a / b for a, b in zip(taken, seconds[DENSE], strict=True))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        peak = f"{peaks[name] / 1e9:.2f} GB | {peaks[name] / peaks[DENSE]:.2f}"
        lines.append(f"| {name} | {statistics.median(taken) * 1e3:.0f} ms | {spread} | {peak} |")
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n".join(
        [
            "# What masks cost in training",
            "",
            f"MiniLM-L6, batch {BATCH}, sequence {SEQUENCE}, AdamW, fp32, one thread; {rounds} interleaved rounds, "
            "ratios paired within a round (smallest to largest). Deciding the masks and the penalty are part of the "
            "step. Peak memory is that of a process of its own.",
            "",
            *lines,
            "",
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            "",
            "Command: `python benchmarks/movement_step.py MODEL --out docs/results/movement-step.md`.",
            "",
        ]
    )


def peak_bytes(model: str, name: str) -> int:
    """Peak resident memory of a fresh process that trains one variant."""
    command = [sys.executable, __file__, model, "--peak-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
