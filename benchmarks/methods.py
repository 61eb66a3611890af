"""Every one-shot method at the same FLOPs budget, with and without reconstruction: accuracy and measured speedup.

python benchmarks/methods.py DENSE --data DATA --speedup 2 --out docs/results/methods-sst2.md
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.compare import compare
from bench.environment import environment_from_machine
from bench.inputs import input_batches
from bench.result import BenchResult, BenchSettings
from pruning.arch import ArchSpec
from pruning.atomic import write_json, write_text
from pruning.batching import predict_from_model
from pruning.budget import flops_budget
from pruning.calibration import calibration_from_texts
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model
from pruning.methods.names import Method
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.tasks.registry import task_named
from pruning.tasks.source import DataSource, load_splits
from pruning.tasks.task import settings_from_config

SEEDS = (0, 1, 2)
SEQUENCE = 128
BATCHES = (1, 8)


@dataclass(frozen=True)
class Trial:
    """One pruned model."""

    method: Method
    reconstruct: bool
    seed: int
    arch: ArchSpec
    accuracy: float
    divergence: float


def main() -> None:
    """Run all trials, time one model per shape, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--calibration", type=int, default=1024)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        dense, trials, texts = run_trials(options, Path(scratch))
        tokenizer = load_checkpoint(options.model).tokenizer
        shapes = sorted(path for path in Path(scratch).iterdir())
        settings = BenchSettings(batches=BATCHES, seqs=(SEQUENCE,), blocks=options.blocks)
        result = compare(
            options.model, shapes, settings, inputs=lambda batch, seq: input_batches(tokenizer, texts, batch, seq)
        )
    write_json(options.out.with_suffix(".bench.json"), result.to_dict())
    write_text(options.out, table(dense, trials, result, options))


def run_trials(options: argparse.Namespace, scratch: Path) -> tuple[float, list[Trial], tuple[str, ...]]:
    """Prune with every method and seed; save one checkpoint per shape for the timing."""
    loaded = load_checkpoint(options.model)
    splits = load_splits(DataSource(options.data))
    task, settings = task_named(options.task), settings_from_config(loaded.model.config)

    def accuracy(model: object) -> float:
        predict = predict_from_model(model)
        return task.evaluate(predict, loaded.tokenizer, splits.evaluation, settings).metric.value

    budget = flops_budget(arch_from_model(loaded.model), options.speedup, SEQUENCE)
    trials = []
    for seed in SEEDS:
        calibration = calibration_from_texts(
            loaded.tokenizer, splits.train.texts, splits.train.pairs, examples=options.calibration, seed=seed
        )
        for method in Method:
            for reconstruct in (True, False):
                asked = OneshotOptions(budget, method, reconstruct, seed=seed)
                pruned = prune_oneshot(loaded.model, calibration, asked)
                trials.append(Trial(method, reconstruct, seed, pruned.arch, accuracy(pruned.model), pruned.divergence))
                print(trials[-1], file=sys.stderr, flush=True)
                if reconstruct and seed == SEEDS[0]:
                    save_checkpoint(pruned.model, loaded.tokenizer, scratch / method.value)
    return accuracy(loaded.model), trials, splits.evaluation.texts


def table(dense: float, trials: list[Trial], result: BenchResult, options: argparse.Namespace) -> str:
    """The table as Markdown."""
    lines = [
        "| method | reconstruction | accuracy | divergence | speedup, batch 1 | speedup, batch 8 |",
        "|---|---|---:|---:|---:|---:|",
        f"| dense | | {dense:.2%} | 0 | 1 | 1 |",
    ]
    for method in Method:
        for reconstruct in (True, False):
            chosen = [x for x in trials if (x.method, x.reconstruct) == (method, reconstruct)]
            speedups = " | ".join(speedup_text(result, method, index) for index in range(len(BATCHES)))
            lines.append(
                f"| {method} | {'yes' if reconstruct else 'no'} | {spread([x.accuracy for x in chosen], '.2%')} | "
                f"{spread([x.divergence for x in chosen], '.4f')} | {speedups} |"
            )
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    shapes = [f"- {x.method}: {x.arch}" for x in trials if x.reconstruct and x.seed == SEEDS[0]]
    return "\n".join(
        [
            f"# One-shot methods at encoder FLOPs / {options.speedup:g}",
            "",
            f"Accuracy and divergence: mean over {len(SEEDS)} seeds (smallest to largest), each with its own "
            f"{options.calibration} unlabelled calibration texts. Divergence: Kullback-Leibler from the dense model, "
            "on texts that chose nothing. Accuracy on the evaluation split; with 872 rows its standard error is "
            "1 point, so differences under half a point are noise.",
            "",
            f"Speedup: ort-cpu, fp32, sequence {SEQUENCE}, one thread, wall clock, against the dense model exported "
            "by the same exporter in the same run, 95 % interval; shape of seed 0.",
            "",
            *lines,
            "",
            "Shapes of seed 0:",
            "",
            *shapes,
            "",
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            "",
            f"Command: `python {shlex.join(sys.argv)}`",
            "",
        ]
    )


def speedup_text(result: BenchResult, method: Method, index: int) -> str:
    """Ratio and interval of one method in one cell."""
    key = next(model.key for model in result.candidates if model.label == method.value)
    ratio = result.comparison(result.cells[index], key).ratio
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def spread(values: list[float], form: str) -> str:
    """Mean, smallest and largest."""
    return f"{statistics.fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
