"""What distillation is worth after pruning, and whether pruning gradually is worth more than training longer at once.

python benchmarks/distilled.py DENSE --data DATA --work FOLDER --out docs/results/distilled-sst2.md

Every model is trained on the same unlabelled texts, one epoch per round of the gradual run; "at once" and "random
structure" prune once and train for as many epochs as the gradual run had spent when it came there. A stopped call goes
on when it is repeated.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from bench.environment import environment_from_machine
from pruning.atomic import write_text
from pruning.methods.names import Method
from tools import gradual
from tools.gradual import GradualSettings
from tools.settings import DataSettings, PruneSettings, TargetSettings, TextSettings

HEADER = (
    "| encoder FLOPs | path | epochs | accuracy | drop | divergence before training | and after | minutes of training |"
    "\n|---:|---|---:|---:|---:|---:|---:|---:|"
)


@dataclass(frozen=True)
class Way:
    """One call of gradual pruning: where it stops on the way, and the epochs of each stop."""

    name: str
    speedups: tuple[float, ...]
    epochs: int
    random: bool = False

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "-".join([self.name.replace(" ", "-"), *(f"{x:g}x" for x in self.speedups)])


def main() -> None:
    """Run what is missing, and write the table of all so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--speedups", default="2,3,4,6")
    parser.add_argument("--at-once", default="3,4,6", help="speedups to go to without stops")
    parser.add_argument("--random", default="3", help="speedups of the random structures")
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    found = []
    for way in ways(options):
        found.append((way, run(way, options)))
        write_text(options.out, table(found, options))


def ways(options: argparse.Namespace) -> Iterator[Way]:
    """The gradual run, then those that train as long at once."""
    speedups = numbers(options.speedups)
    yield Way("gradual", speedups, 1)
    for name, wanted in (("at once", options.at_once), ("random structure", options.random)):
        for speedup in numbers(wanted):
            yield Way(name, (speedup,), speedups.index(speedup) + 1, random=name == "random structure")


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a list with commas."""
    return tuple(float(part) for part in text.split(",") if part)


def run(way: Way, options: argparse.Namespace) -> Mapping[str, Any]:
    """Prune and train, or read what was done."""
    settings = GradualSettings(
        speedups=way.speedups, task=options.task, epochs=way.epochs, max_train_examples=options.examples
    )
    request = PruneSettings(target=TargetSettings(speedup=1.0)), settings
    with random_structure() if way.random else nullcontext():
        return gradual.prune(
            options.model,
            DataSettings(data=options.data),
            request,
            TextSettings(seed=options.seed),
            options.work / way.folder,
            resume=True,
        )


def random_structure() -> AbstractContextManager[object]:
    """Let every round choose what stays by chance."""
    return mock.patch.object(gradual, "method_for_target", return_value=SimpleNamespace(method=Method.RANDOM))


def table(found: list[tuple[Way, Mapping[str, Any]]], options: argparse.Namespace) -> str:
    """All models, smallest speedup first, as Markdown."""
    dense = found[0][1]["baseline"]["metric"]["value"]
    rows = sorted(
        (speedup, row_text(way, index, model, dense))
        for way, facts in found
        for index, (speedup, model) in enumerate(zip(way.speedups, facts["models"], strict=True))
    )
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n\n".join(
        [
            "# What distillation is worth after pruning",
            f"Dense accuracy {dense:.2%}. Trained on {options.examples:,} training texts without their labels, taught "
            f"by the dense model (logits and hidden states), seed {options.seed}. Divergence: Kullback-Leibler from "
            "the dense model on texts that chose nothing and trained nothing. With 872 rows the standard error of an "
            "accuracy is 1 point and that of a paired difference 0.6 to 0.9. Minutes on one thread of a core that "
            "other programs used, too.",
            "\n".join([HEADER, *(row for _, row in rows)]),
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            f"Command: `python {shlex.join(sys.argv)}`\n",
        ]
    )


def row_text(way: Way, index: int, model: Mapping[str, Any], dense: float) -> str:
    """One model; a gradual one has had the training of those before it, too."""
    accuracy, epochs = model["metric"]["value"], way.epochs * (index + 1)
    taken_back = "" if model["kept_training"] else " (training taken back)"
    return (
        f"| / {way.speedups[index]:g} | {way.name} | {epochs} | {accuracy:.2%} | {100 * (dense - accuracy):.2f} | "
        f"{model['divergence_pruned']:.4f} | {model['divergence']:.4f}{taken_back} | "
        f"{model['seconds']['train'] / 60:.1f} |"
    )


if __name__ == "__main__":
    main()
