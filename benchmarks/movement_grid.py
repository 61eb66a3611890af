"""Block movement pruning beside the other methods at the same measured speedup: accuracy, speed and training time.

python benchmarks/movement_grid.py DENSE --data DATA --latency-table TABLE --work FOLDER --out RESULT.md

At each density hybrid-filled and struct are pruned to the density; magnitude (whole heads and neurons, trained as
struct is), gradual and oneshot to the speedup that the table predicts for hybrid-filled. All that train see the same
sentences at the same rate, and learn from the dense model's logits and hidden states. A stopped call goes on when it is
repeated.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compare import compare
from bench.environment import environment_from_machine
from bench.inputs import input_batches
from bench.result import BenchResult, BenchSettings
from pruning.arch import ArchSpec
from pruning.atomic import write_json, write_text
from pruning.batching import predict_from_model
from pruning.calibration import calibration_from_texts
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model
from pruning.latency_table import latency_budget, load_table
from pruning.methods.block_movement import RECORD
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.movement.names import MaskFunction, Variant
from pruning.tasks.registry import task_named
from pruning.tasks.source import load_splits
from tools import gradual, movement
from tools.gradual import GradualSettings
from tools.model_facts import PRUNE_FACTS
from tools.movement import LessonSettings, MovementSettings
from tools.settings import DataSettings, PriceSettings, PruneSettings, TargetSettings, TextSettings

SEQUENCE = 128
BATCHES = (1, 8)
TIMES = "minutes.json"
HEADER = (
    "| asked | method | epochs | density | accuracy | drop | speedup, batch 1 | speedup, batch 8 | CPU minutes |\n"
    "|---:|---|---:|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Row:
    """One model of the table; ``folder`` holds a checkpoint of its shape."""

    density: float
    method: str
    epochs: str
    folder: Path
    arch: ArchSpec
    accuracy: float
    minutes: float


class Grid:
    """The runs that the options ask for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.data, self.text = DataSettings(data=options.data), TextSettings(seed=options.seed)
        self.table = load_table(options.latency_table)
        self.dense = load_checkpoint(options.model)
        self.arch = arch_from_model(self.dense.model)

    def rows(self) -> Iterator[Row]:
        """Every model, made where it is missing."""
        for density in numbers(self.options.densities):
            yield from self._filled(density)
            yield self._movement(density, "struct", TargetSettings(density=density), Variant.STRUCT)
            speedup = self._speedup(arch_from_folder(self._folder("hybrid-filled", density)))
            target = TargetSettings(speedup=speedup)
            yield self._movement(density, "magnitude", target, Variant.STRUCT, MaskFunction.MAGNITUDE)
            yield self._gradual(density, speedup)
            yield self._oneshot(density, speedup)

    def _folder(self, name: str, density: float) -> Path:
        return Path(self.options.work) / f"{name}-{100 * density:g}"

    def _speedup(self, arch: ArchSpec) -> float:
        spent = latency_budget(self.arch, [(self.table, 1.0)], 1.0).spent
        return spent(self.arch) / spent(arch)

    def _filled(self, density: float) -> Iterator[Row]:
        masked, fill = self.options.epochs, 1
        folder = self._folder("hybrid-filled", density)
        target = TargetSettings(density=density)
        facts, minutes = timed(folder, lambda: self._prune(folder, target, MovementSettings(fill_epochs=fill), masked))
        arch = arch_from_folder(folder)
        yield Row(density, "hybrid (same run, before the fill)", f"{masked}", folder, arch, score(facts["unfilled"]), 0)
        yield Row(density, "hybrid-filled", f"{masked} + {fill}", folder, arch, score(facts["candidate"]), minutes)

    def _movement(
        self,
        density: float,
        name: str,
        target: TargetSettings,
        variant: Variant,
        function: MaskFunction = MaskFunction.SIGMOID_THRESHOLD,
    ) -> Row:
        folder, epochs = self._folder(name, density), self.options.epochs
        settings = MovementSettings(variant=variant, mask_function=function)
        facts, minutes = timed(folder, lambda: self._prune(folder, target, settings, epochs))
        return Row(density, name, f"{epochs}", folder, arch_from_folder(folder), score(facts["candidate"]), minutes)

    def _prune(
        self, folder: Path, target: TargetSettings, settings: MovementSettings, epochs: int
    ) -> Mapping[str, Any]:
        options = self.options
        lesson = LessonSettings(
            task=options.task,
            epochs=epochs,
            max_train_examples=options.examples,
            learning_rate=options.learning_rate,
            hidden_weight=options.hidden_weight,
        )
        size = PruneSettings(target=target, price=self._price(target))
        return movement.prune(str(options.model), self.data, lesson, settings, size, self.text, folder, resume=True)

    def _price(self, target: TargetSettings) -> PriceSettings:
        return PriceSettings() if target.speedup is None else PriceSettings(tables=(str(self.options.latency_table),))

    def _gradual(self, density: float, speedup: float) -> Row:
        """Two rounds, half of the epochs of hybrid-filled each."""
        folder, options, epochs = self._folder("gradual", density), self.options, (self.options.epochs + 1) // 2
        settings = GradualSettings(
            speedups=((1 + speedup) / 2, speedup),
            task=options.task,
            epochs=epochs,
            max_train_examples=options.examples,
            learning_rate=options.learning_rate,
            hidden_weight=options.hidden_weight,
        )
        target = TargetSettings(speedup=speedup)
        request = PruneSettings(target=target, price=self._price(target)), settings
        prune = lambda: gradual.prune(str(options.model), self.data, request, self.text, folder, resume=True)  # noqa: E731
        facts, minutes = timed(folder, prune, PRUNE_FACTS)
        model = facts["models"][-1]
        checkpoint, arch = Path(model["checkpoint"]), ArchSpec.from_dict(model["arch"])
        return Row(density, "gradual", f"{epochs} + {epochs}", checkpoint, arch, score(model), minutes)

    def _oneshot(self, density: float, speedup: float) -> Row:
        folder = self._folder("oneshot", density)
        facts, minutes = timed(folder, lambda: self._prune_once(folder, speedup), "facts.json")
        return Row(density, "oneshot", "0", folder, arch_from_folder(folder), score(facts), minutes)

    def _prune_once(self, folder: Path, speedup: float) -> Mapping[str, Any]:
        splits = load_splits(self.data.source)
        calibration = calibration_from_texts(self.dense.tokenizer, splits.train.texts, seed=self.options.seed)
        budget = latency_budget(self.arch, [(self.table, 1.0)], speedup)
        model = prune_oneshot(self.dense.model, calibration, OneshotOptions(budget, seed=self.options.seed)).model
        save_checkpoint(model, self.dense.tokenizer, folder)
        facts = {"metric": {"value": self.accuracy(model)}}
        write_json(folder / "facts.json", facts)
        return facts

    def accuracy(self, model: object) -> float:
        """On the evaluation split."""
        task, splits = task_named(self.options.task), load_splits(self.data.source)
        settings = task.settings(self.dense.model.config, None)
        return task.evaluate(predict_from_model(model), self.dense.tokenizer, splits.evaluation, settings).metric.value


def score(facts: Mapping[str, Any]) -> float:
    """The metric of one model's facts."""
    return float(facts["metric"]["value"])


def arch_from_folder(folder: Path) -> ArchSpec:
    """Shape of the checkpoint in ``folder``."""
    return arch_from_model(load_checkpoint(folder).model)


def timed(folder: Path, work: Callable[[], Mapping[str, Any]], record: str = RECORD) -> tuple[Mapping[str, Any], float]:
    """What ``work`` returns, or has left in ``record``, and the CPU minutes that it took in all calls together."""
    times = folder.with_suffix(f".{TIMES}")
    before = json.loads(times.read_text(encoding="utf-8")) if times.exists() else 0.0
    if (folder / record).is_file() and times.exists():
        found = json.loads((folder / record).read_text(encoding="utf-8"))
        return found.get("facts", found), before
    start = time.process_time()
    try:
        return work(), before + (time.process_time() - start) / 60
    finally:
        write_json(times, before + (time.process_time() - start) / 60)


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list with commas."""
    return tuple(float(part) for part in text.split(",") if part)


def main() -> None:
    """Make what is missing, time all shapes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--latency-table", type=Path, required=True)
    parser.add_argument("--densities", default="0.5,0.35,0.2")
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3, help="under masks; the fill takes one more")
    parser.add_argument("--learning-rate", type=float, default=8e-5)
    parser.add_argument("--hidden-weight", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    grid = Grid(options)
    rows = []
    for row in grid.rows():
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    folders = list(dict.fromkeys(row.folder for row in rows))
    texts = load_splits(grid.data.source).evaluation.texts
    result = compare(
        options.model,
        folders,
        BenchSettings(batches=BATCHES, seqs=(SEQUENCE,), blocks=options.blocks),
        labels=["dense", *(folder.name for folder in folders)],
        inputs=lambda batch, seq: input_batches(grid.dense.tokenizer, texts, batch, seq),
    )
    write_text(options.out, table(grid, rows, result, folders))


def table(grid: Grid, rows: list[Row], result: BenchResult, folders: list[Path]) -> str:
    """The table as Markdown."""
    dense = grid.accuracy(grid.dense.model)
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n\n".join(
        [
            "# Block movement pruning beside the other methods",
            f"Dense accuracy {dense:.2%}. Trained on {grid.options.examples:,} training sentences in batches of 32, "
            f"peak rate {grid.options.learning_rate:g}, weight of hidden states {grid.options.hidden_weight:g}, seed "
            f"{grid.options.seed}. Density: encoder matrix weights of what lives. Speedup: ort-cpu, fp32, "
            f"sequence {SEQUENCE}, one thread, wall clock, against the dense model in the same run, 95 % interval. "
            "With 872 rows the standard error of an accuracy is 1 point and that of a paired difference 0.6 to 0.9. "
            "CPU minutes: one thread, everything included.",
            "\n".join([HEADER, *(row_text(grid, row, dense, result, folders) for row in by_density(rows))]),
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            f"Command: `python {shlex.join(sys.argv)}`\n",
        ]
    )


def by_density(rows: list[Row]) -> list[Row]:
    """The largest models first."""
    return sorted(rows, key=lambda row: -row.density)


def row_text(grid: Grid, row: Row, dense: float, result: BenchResult, folders: list[Path]) -> str:
    """One model."""
    key = result.candidates[folders.index(row.folder)].key
    ratios = [result.comparison(cell, key).ratio for cell in result.cells]
    speeds = " | ".join(f"{x.value:.2f} ({x.low:.2f} to {x.high:.2f})" for x in ratios)
    kept = row.arch.encoder_linear_params / grid.arch.encoder_linear_params
    minutes = f"{row.minutes:.1f}" if row.minutes else ""
    return (
        f"| {row.density:.0%} | {row.method} | {row.epochs} | {kept:.1%} | {row.accuracy:.2%} | "
        f"{100 * (dense - row.accuracy):.2f} | {speeds} | {minutes} |"
    )


if __name__ == "__main__":
    main()
