"""What each ingredient of one-shot pruning is worth: the score, and divergence on fresh texts, with it and without it.

python benchmarks/ablation.py DENSE --data DATA --out docs/results/oneshot-sst2.md

One JSON line per trial in the .jsonl file beside the table; a trial that has its line is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from transformers import PreTrainedModel

from bench.environment import environment_from_machine
from pruning import calibration
from pruning.atomic import write_text
from pruning.batching import Batch, bucketed_batches, encode, predict_from_model
from pruning.budget import flops_budget
from pruning.calibration import calibration_from_texts
from pruning.checkpoint import load_checkpoint
from pruning.divergence import divergence
from pruning.introspect import arch_from_model
from pruning.least_squares import Moments
from pruning.methods import oneshot
from pruning.methods.names import Method
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.sensitivity import Sensitivity, output_sensitivity
from pruning.tasks.reading import rows_as_read
from pruning.tasks.registry import task_named
from pruning.tasks.source import DataSource, load_splits
from pruning.tasks.task import Metric, settings_from_config
from pruning.tasks.text_data import TextData

SEQUENCE = 128
FRESH = 1000
FRESH_SEED = 12345


@dataclass(frozen=True)
class Variant:
    """Options of `prune_oneshot`, its own number of calibration texts, and what is switched off meanwhile."""

    meaning: str
    method: Method = Method.ONESHOT
    reconstruct: bool = True
    calibration: int | None = None
    without: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Trial:
    """One pruned model."""

    variant: str
    speedup: float
    seed: int
    score: float
    fresh: float
    evaluation: float
    report: float
    seconds: float
    arch: str


def patched_sensitivity(
    change: Callable[[Sensitivity, Sequence[Batch]], Sensitivity],
) -> AbstractContextManager[object]:
    """Let `prune_oneshot` see another sensitivity than the measured one."""

    def changed(model: object, batches: Sequence[Batch], **options: object) -> Sensitivity:
        return change(output_sensitivity(model, batches, **options), batches)

    return mock.patch.object(oneshot, "output_sensitivity", changed)


def without_output_metric() -> AbstractContextManager[object]:
    """Every direction of every output costs the same."""
    return patched_sensitivity(
        lambda found, _batches: replace(found, gradients=[torch.eye(len(x), dtype=x.dtype) for x in found.gradients])
    )


def without_token_weights() -> AbstractContextManager[object]:
    """Every real token counts once."""

    def plain(found: Sensitivity, batches: Sequence[Batch]) -> Sensitivity:
        masks = [batch["attention_mask"].float() for batch in batches]
        return replace(found, weights=[[mask] * len(row) for mask, row in zip(masks, found.weights, strict=True)])

    return patched_sensitivity(plain)


def without_intercept() -> AbstractContextManager[object]:
    """Costs count the mean of what is removed, too, as if the bias could not take it over."""

    def second_moment(moments: Moments) -> Tensor:
        if moments.origin is None:
            return moments.xx
        origin = moments.origin.double()
        cross = torch.outer(moments.x, origin)
        total = moments.xx + cross + cross.T + moments.tokens * torch.outer(origin, origin)
        return total / moments.tokens

    return mock.patch.object(Moments, "covariance", second_moment)


def without_length() -> AbstractContextManager[object]:
    """Every calibration text has the same chance to be drawn, however long it is."""

    def drawn(rows: Sequence[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
        return random.Random(seed).sample(list(rows), min(count, len(rows)))

    return mock.patch.object(calibration, "drawn_by_length", drawn)


VARIANTS = {
    "default": Variant("everything"),
    "fisher": Variant("mask Fisher scores", method=Method.FISHER),
    "fisher-plain": Variant("mask Fisher, no reconstruction", Method.FISHER, False),
    "no-metric": Variant("costs without the gradients' covariance", without=without_output_metric),
    "no-token-weights": Variant("all tokens alike", without=without_token_weights),
    "no-intercept": Variant("costs without the intercept", without=without_intercept),
    "no-reconstruction": Variant("no reconstruction", reconstruct=False),
    "texts-any-length": Variant("texts drawn whatever their length", without=without_length),
    "texts-128": Variant("128 calibration texts", calibration=128),
    "texts-512": Variant("512 calibration texts", calibration=512),
    "texts-2048": Variant("2,048 calibration texts", calibration=2048),
    "drop": Variant("whole sublayers only", Method.DROP),
    "magnitude": Variant("magnitude", Method.MAGNITUDE),
    "uniform": Variant("uniform magnitude", Method.UNIFORM),
    "uniform-plain": Variant("uniform magnitude, no reconstruction", Method.UNIFORM, False),
    "random": Variant("random structure", Method.RANDOM),
}


class Setting:
    """The dense model, its task and data, and the fresh texts that no trial sees."""

    def __init__(self, model: Path, data: str, task: str, texts: int) -> None:
        self.calibration = texts
        self.dense = load_checkpoint(model)
        self.splits = load_splits(DataSource(data))
        self.task, self.settings = task_named(task), settings_from_config(self.dense.model.config)
        read = rows_as_read(self.dense.model, self.splits.train)
        rows = list(dict.fromkeys(zip(read.texts, read.pairs or [""] * len(read), strict=True)))
        random.Random(FRESH_SEED).shuffle(rows)
        self.texts = text_data(rows[FRESH:])
        self.fresh = self.batches(text_data(rows[:FRESH]))
        self.evaluation = self.batches(rows_as_read(self.dense.model, self.splits.evaluation))

    def batches(self, rows: TextData) -> list[Batch]:
        """Tokenised and padded."""
        return [item.batch for item in bucketed_batches(encode(self.dense.tokenizer, rows.texts, rows.pairs), 64)]

    def distance(self, model: PreTrainedModel, batches: Sequence[Batch]) -> float:
        """Divergence from the dense model."""
        return divergence(predict_from_model(self.dense.model), predict_from_model(model), batches)

    def score(self, model: object) -> Metric:
        """On the evaluation split."""
        predict = predict_from_model(model)
        return self.task.evaluate(predict, self.dense.tokenizer, self.splits.evaluation, self.settings).metric

    def run(self, name: str, speedup: float, seed: int) -> Trial:
        """Prune once and look at the result."""
        variant = VARIANTS[name]
        budget = flops_budget(arch_from_model(self.dense.model), speedup, SEQUENCE)
        options = OneshotOptions(budget, variant.method, variant.reconstruct, seed=seed)
        with variant.without():
            calibration = calibration_from_texts(
                self.dense.tokenizer,
                self.texts.texts,
                self.texts.pairs,
                examples=variant.calibration or self.calibration,
                seed=seed,
            )
            start = time.process_time()
            pruned = prune_oneshot(self.dense.model, calibration, options)
        seconds = time.process_time() - start
        found = [self.distance(pruned.model, batches) for batches in (self.fresh, self.evaluation)]
        score = self.score(pruned.model).value
        return Trial(name, speedup, seed, score, *found, pruned.divergence, seconds, str(pruned.arch))


def text_data(rows: Sequence[tuple[str, str]]) -> TextData:
    """Rows of a text and its pair, which may be empty."""
    pairs = tuple(pair for _, pair in rows)
    return TextData(tuple(text for text, _ in rows), pairs if any(pairs) else None)


def main() -> None:
    """Run the trials that are missing, and write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--speedups", default="1.5,2,3")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calibration", type=int, default=1024, help="texts, where a variant does not say how many")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lines = options.out.with_suffix(".jsonl")
    setting = Setting(options.model, options.data, options.task, options.calibration)
    trials = read_trials(lines)
    done = {(x.variant, x.speedup, x.seed) for x in trials}
    for speedup in map(float, options.speedups.split(",")):
        for name in options.variants.split(","):
            for seed in range(options.seeds):
                if (name, speedup, seed) not in done:
                    trials.append(setting.run(name, speedup, seed))
                    with lines.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(trials[-1])) + "\n")
    write_text(options.out, table(setting.score(setting.dense.model), trials))


def read_trials(path: Path) -> list[Trial]:
    """The trials of earlier calls."""
    if not path.exists():
        return []
    return [Trial(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(dense: Metric, trials: Sequence[Trial]) -> str:
    """One table per speedup, as Markdown."""
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    blocks = [f"# What each ingredient of one-shot pruning is worth\n\n{EXPLANATION}\n\n{doubt(dense)}"]
    for speedup in sorted({x.speedup for x in trials}):
        rows = [
            row_text(name, dense.value, [x for x in trials if (x.variant, x.speedup) == (name, speedup)])
            for name in VARIANTS
        ]
        blocks.append(
            f"## Encoder FLOPs / {speedup:g}\n\n{HEADER.format(dense.name)}\n" + "\n".join(row for row in rows if row)
        )
    blocks.append(f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.")
    blocks.append(f"Last command: `python {shlex.join(sys.argv)}`\n")
    return "\n\n".join(blocks)


HEADER = (
    "| variant | {} | drop | divergence, fresh texts | divergence, evaluation texts | CPU seconds | trials |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)
EXPLANATION = (
    f"Mean over calibration seeds (smallest to largest). Divergence from the dense model (Kullback-Leibler; of "
    f"embeddings 1 - cosine similarity) on the same {FRESH:,} training texts, which no trial was calibrated with, and "
    f"on the evaluation texts. FLOPs at sequence {SEQUENCE}; CPU seconds of pruning."
)


def doubt(dense: Metric) -> str:
    """The dense model's score, and how exactly it is known."""
    found = f"Dense {dense.name} {dense.value:.2%} on {dense.n:,} rows"
    if dense.name != "accuracy":
        return f"{found}."
    error = 100 * math.sqrt(dense.value * (1 - dense.value) / dense.n)
    return f"{found}: its standard error is {error:.1f} points. Divergence tells models apart that accuracy does not."


def row_text(name: str, dense: float, trials: Sequence[Trial]) -> str:
    """One variant; nothing if it was not tried."""
    if not trials:
        return ""
    scores = [x.score for x in trials]
    distances = [spread([getattr(x, name) for x in trials], ".4f") for name in ("fresh", "evaluation")]
    drop, seconds = dense - statistics.fmean(scores), statistics.median([x.seconds for x in trials])
    return (
        f"| {VARIANTS[name].meaning} | {spread(scores, '.2%')} | {100 * drop:.2f} | {' | '.join(distances)} | "
        f"{seconds:.0f} | {len(trials)} |"
    )


def spread(values: Sequence[float], form: str) -> str:
    """Mean, smallest and largest."""
    return f"{statistics.fmean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
