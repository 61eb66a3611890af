"""Whether compaction, saving and exporting change a really trained block movement model: logits and metric.

python benchmarks/movement_equality.py DENSE --data DATA --out docs/results/movement-equality.md

Every variant is trained for a few steps, which is enough for masks with holes and dead units in every layer; then the
same evaluation sentences go through the masked, the compact and the reloaded model and through ONNX Runtime.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.environment import environment_from_machine
from exporter.options import Dialect, GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.to_onnx import onnx_from_model
from pruning.atomic import write_text
from pruning.batching import Predict, bucketed_batches, encode, predict_from_model
from pruning.budget import density_budget
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.distillation import Distillation, DistillationOptions
from pruning.introspect import arch_from_model, inner_density
from pruning.methods.block_movement import MovementOptions, target_from_budget, train_under_masks
from pruning.movement.controller import Target
from pruning.movement.fill import fill_holes
from pruning.movement.names import Variant
from pruning.movement.spec import movement_spec
from pruning.tasks.registry import task_named
from pruning.tasks.source import DataSource, Splits, load_splits
from pruning.tasks.task import settings_from_config
from pruning.training import TrainingOptions

HEADER = "| variant | form | accuracy | largest difference of a logit | decisions changed |\n|---|---|---:|---:|---:|"


@dataclass(frozen=True, eq=False)
class Setting:
    """The dense model, its data, and how it is trained."""

    dense: Checkpoint
    splits: Splits
    task: str
    density: float
    examples: int


def main() -> None:
    """Train every variant, compare its forms, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", default="text-classification")
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--examples", type=int, default=1280)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    splits = load_splits(DataSource(options.data))
    setting = Setting(load_checkpoint(options.model), splits, options.task, options.density, options.examples)
    found = [rows_of(setting, variant) for variant in Variant]
    write_text(options.out, table(setting, [shape for shape, _ in found], [row for _, rows in found for row in rows]))


def rows_of(setting: Setting, variant: Variant) -> tuple[str, list[str]]:
    """Train one variant and compare what becomes of it; a filled one starts anew with the fill.

    Returns:
        Its shape in words, and a row for each form.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch, spec = Path(name), movement_spec(variant)
        options = MovementOptions(spec, target(setting, spec.row.counts_holes), TrainingOptions(epochs=1))
        pruner = train_under_masks(setting.dense, objective(setting), options, scratch / "states", silent)
        compact = pruner.compact()
        if spec.row.filled:
            fill_holes(compact, seed=0)
        first = {"filled": compact} if spec.row.filled else {"masked": pruner.model.eval(), "compact": compact}
        save_checkpoint(compact, setting.dense.tokenizer, scratch / "saved")
        loaded = load_checkpoint(scratch / "saved").model
        forms = {form: predict_from_model(model) for form, model in (first | {"reloaded": loaded}).items()}
        for dialect in (Dialect.STANDARD, Dialect.ORT_CPU):
            path = onnx_from_model(loaded, scratch / f"{dialect}.onnx", options=GraphOptions(dialect)).path
            forms[f"ONNX, {dialect}"] = predict_from_session(session_from_onnx(path))
        heads, ffn = inner_density(compact)
        shape = f"- {variant}: {arch_from_model(compact)}; inner density {heads:.0%} of heads, {ffn:.0%} of the FFN"
        return shape, [f"| {variant} | {row}" for row in form_rows(setting, forms)]


def target(setting: Setting, counts_holes: bool) -> Target:
    """A share of the encoder's weights: of those that are not zero, or of those that live."""
    if counts_holes:
        return Target(setting.density, None, f"{setting.density:.0%} of the weights not zero")
    return target_from_budget(
        density_budget(arch_from_model(setting.dense.model), setting.density), setting.dense.model
    )


def objective(setting: Setting) -> Distillation:
    """The loss of `slimbert prune --method block-movement`."""
    dense, task = setting.dense, task_named(setting.task)
    rows = setting.splits.train.sample(setting.examples, seed=0)
    truth = task.objective(dense.tokenizer, rows, settings_from_config(dense.model.config))
    return Distillation(dense.model, None, DistillationOptions(logits=0.9, truth=0.1), truth)


def silent(_phase: str, _done: int, _total: int, _what: str) -> None:
    """Say nothing."""


def form_rows(setting: Setting, forms: Mapping[str, Predict]) -> list[str]:
    """Accuracy of each form, and how far its logits are from those of the first."""
    reference: Tensor | None = None
    rows = []
    for name, predict in forms.items():
        logits = evaluation_logits(setting, predict)
        reference = logits if reference is None else reference
        gap, changed = (logits - reference).abs().max().item(), (logits.argmax(-1) != reference.argmax(-1)).sum().item()
        rows.append(f"{name} | {accuracy(setting, predict):.4%} | {gap:.1e} | {changed} |")
    return rows


def evaluation_logits(setting: Setting, predict: Predict) -> Tensor:
    """Of all evaluation texts, in batches with padding, (texts, classes)."""
    encodings = encode(setting.dense.tokenizer, setting.splits.evaluation.texts)
    return torch.cat([predict(item.batch)["logits"] for item in bucketed_batches(encodings, 32)])


def accuracy(setting: Setting, predict: Predict) -> float:
    """On the evaluation split."""
    task, dense = task_named(setting.task), setting.dense
    settings = settings_from_config(dense.model.config)
    return task.evaluate(predict, dense.tokenizer, setting.splits.evaluation, settings).metric.value


def table(setting: Setting, shapes: Sequence[str], rows: Sequence[str]) -> str:
    """The table as Markdown."""
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n\n".join(
        [
            "# Block movement pruning: the same answers in every form",
            f"Each variant at a density of {setting.density:.0%}, trained for one epoch on {setting.examples:,} "
            f"labelled sentences, then run on all {len(setting.splits.evaluation):,} evaluation sentences in padded "
            "batches of 32, fp32. Differences are to the first form of the variant. Inner density: weights that are "
            "not zero in what lives.",
            "\n".join([HEADER, *rows]),
            "\n".join(shapes),
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            f"Command: `python {shlex.join(sys.argv)}`\n",
        ]
    )


if __name__ == "__main__":
    main()
