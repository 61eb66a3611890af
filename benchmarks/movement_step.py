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
from pruning.arch import ArchSpec
from pruning.atomic import write_text
from pruning.checkpoint import load_checkpoint
from pruning.movement.controller import Target
from pruning.movement.names import Variant
from pruning.movement.pruner import attach
from pruning.movement.schedule import Schedule
from pruning.movement.spec import VARIANTS, movement_spec
from pruning.movement.training import parameter_groups

WARMUP = 1
RAMP_STEPS = 1000
"""So that every fifth step solves for the cut and steers the penalty."""
FIRST_STEP = 500
DENSE = "dense"


class Training:
    """One model and its optimiser; `step` is one optimiser step on the same batch."""

    def __init__(self, model: PreTrainedModel, variant: str, batch: int, sequence: int) -> None:
        self.model = copy.deepcopy(model).train()
        self.pruner = None
        groups = [{"params": list(self.model.parameters())}]
        if variant != DENSE:
            spec = movement_spec(Variant(variant))
            price = None if VARIANTS[spec.variant].counts_holes else _linear_params
            aim = Target(0.5, price, "half of the weights")
            self.pruner = attach(self.model, spec, Schedule(RAMP_STEPS, 0, 0), aim)
            groups = parameter_groups(self.model, self.pruner)
        self.optimiser = torch.optim.AdamW(groups, lr=3e-5)
        ids = torch.randint(1000, 20000, (batch, sequence), generator=torch.Generator().manual_seed(0))
        self.batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(batch) % 2}

    def step(self, number: int) -> float:
        """CPU seconds of step ``number``."""
        start = time.process_time()
        if self.pruner is not None:
            self.pruner.step(number)
        loss = self.model(**self.batch).loss
        if self.pruner is not None:
            loss = loss + self.pruner.penalty()
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return time.process_time() - start


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--variants", nargs="+", type=Variant, default=list(Variant))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq", type=int, default=64)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)  # child process: one variant, print its peak bytes
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.batch, options.seq)
    if options.peak_of:
        training = Training(load_checkpoint(options.model).model, options.peak_of, *size)
        for number in range(2):
            training.step(FIRST_STEP + number)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    text = report(options.model, options.variants, options.rounds, size)
    print(text)
    if options.out is not None:
        write_text(options.out, text)


def report(model: str, variants: list[Variant], rounds: int, size: tuple[int, int]) -> str:
    """The table as Markdown; each variant's steps alternate with dense ones, ratios are paired."""
    batch, sequence = size
    dense = load_checkpoint(model).model
    lines = ["| model | step, median | against dense | peak memory | against dense |", "|---|---:|---:|---:|---:|"]
    reference = Training(dense, DENSE, batch, sequence)
    dense_peak = peak_bytes(model, DENSE, batch, sequence)
    lines.append(f"| {DENSE} | {seconds_of(reference, rounds) * 1e3:.0f} ms | 1 | {dense_peak / 1e9:.2f} GB | 1 |")
    for name in variants:
        taken, ratios = paired_seconds(reference, Training(dense, name, batch, sequence), rounds)
        peak = peak_bytes(model, name, batch, sequence)
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {taken * 1e3:.0f} ms | {spread} | {peak / 1e9:.2f} GB | {peak / dense_peak:.2f} |")
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n".join(
        [
            "# What masks cost in training",
            "",
            f"Batch {batch}, sequence {sequence}, AdamW, fp32, one thread. Each variant's steps alternate "
            f"with dense ones, {rounds} pairs after a warm-up; ratios are those of pairs, median (smallest to "
            "largest), in CPU time. Deciding the masks and the penalty are part of every step, solving for the target "
            "of half the weights of every fifth. Peak memory is that of a process of its own.",
            "",
            *lines,
            "",
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            "",
            f"Command: `python benchmarks/movement_step.py MODEL --batch {batch} --seq {sequence} --rounds {rounds}`.",
            "",
        ]
    )


def seconds_of(training: Training, rounds: int) -> float:
    """Median of ``rounds`` steps after the warm-up."""
    taken = [training.step(FIRST_STEP + number) for number in range(WARMUP + rounds)]
    return statistics.median(taken[WARMUP:])


def paired_seconds(reference: Training, training: Training, rounds: int) -> tuple[float, list[float]]:
    """Median seconds of ``training``, and its ratio to ``reference`` in each round."""
    pairs = [(training.step(number), reference.step(number)) for number in range(FIRST_STEP, FIRST_STEP + rounds + 1)]
    pairs = pairs[WARMUP:]
    return statistics.median(taken for taken, _ in pairs), [taken / dense for taken, dense in pairs]


def peak_bytes(model: str, name: str, batch: int, sequence: int) -> int:
    """Peak resident memory of a fresh process that trains one variant."""
    size = ["--batch", str(batch), "--seq", str(sequence)]
    command = [sys.executable, __file__, model, "--peak-of", name, *size]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _linear_params(arch: ArchSpec) -> float:
    return arch.encoder_linear_params


if __name__ == "__main__":
    main()
