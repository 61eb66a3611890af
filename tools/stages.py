"""The stages of a run, in order: each reads what the ones before left on disk, and returns plain facts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.compare import compare
from bench.inputs import input_batches
from bench.result import BenchSettings
from exporter.deploy import ONNX_FILE, write_deploy
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.arch import ArchSpec
from pruning.batching import Batch, Predict, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, Task, settings_from_config
from tools.console import Steps
from tools.model_facts import facts_from_model
from tools.parity_row import parity_row
from tools.run_folder import RunFolder
from tools.settings import BenchGrid, RunSettings

BENCH_TEXTS = 2000
EVALUATION_THREADS = 2

Facts = dict[str, Any]


@dataclass
class Workspace:
    """What the stages share: the request, the dense model and the data (read once), and where things go."""

    settings: RunSettings
    folder: RunFolder
    dense: Checkpoint
    splits: Splits
    calibration: Calibration
    target: Budget | ArchSpec
    steps: Steps

    @property
    def task(self) -> Task:
        """The task."""
        return task_named(self.settings.task)

    @cached_property
    def compact(self) -> Checkpoint:
        """The pruned checkpoint, read back from disk."""
        return load_checkpoint(self.folder.compact)

    def evaluate(self, predict: Predict) -> Evaluation | None:
        """Score on the evaluation data; None if they have no labels and the task needs them."""
        data = self.splits.evaluation
        if self.task.needs_truth and not self.task.has_truth(data):
            return None
        settings = settings_from_config(self.dense.model.config, max_length=self.settings.max_length)
        reference = predict_from_model(self.dense.model)
        return self.task.evaluate(predict, self.dense.tokenizer, data, settings, reference)


def baseline(work: Workspace) -> Facts:
    """Size and score of the dense model."""
    evaluation = work.evaluate(predict_from_model(work.dense.model))
    return {**facts_from_model(work.dense.model), **_scores(evaluation)}


def prune(work: Workspace) -> Facts:
    """Prune, and write ``compact/``."""
    asked = work.settings.prune
    options = OneshotOptions(
        work.target, asked.method, asked.reconstruct, ffn_multiple=asked.ffn_multiple, seed=work.settings.seed
    )
    result = prune_oneshot(work.dense.model, work.calibration, options, work.steps.update)
    save_checkpoint(result.model, work.dense.tokenizer, work.folder.compact, with_code=work.settings.with_code)
    return {
        "budget": None if isinstance(work.target, ArchSpec) else work.target.meaning,
        "calibration": list(work.calibration.sizes),
        "divergence": result.divergence,
        "divergence_unreconstructed": result.divergence_unreconstructed,
        "kept_reconstruction": result.kept_reconstruction,
        "phases": result.seconds,
    }


def export(work: Workspace) -> Facts:
    """Write ``deploy/``, checked against the checkpoint."""
    result = write_deploy(work.compact.model, work.compact.tokenizer, work.folder.deploy, source=work.dense.path)
    row = parity_row(result.path.relative_to(work.folder.path).as_posix(), result.parity)
    return {"parity": [row], "cases": len(result.parity), "nodes": result.nodes, "onnx_bytes": result.bytes}


def evaluate(work: Workspace) -> Facts:
    """Size of the compact model, and the score of the ONNX file that was made of it."""
    session = session_from_onnx(work.folder.deploy / ONNX_FILE, threads=EVALUATION_THREADS)
    evaluation = work.evaluate(predict_from_session(session))
    return {**facts_from_model(work.compact.model), **_scores(evaluation)}


def bench(work: Workspace) -> Facts:
    """Time the dense model against ``deploy/`` in every cell; the raw samples are the facts."""
    texts = work.splits.evaluation.texts[:BENCH_TEXTS]

    def inputs(batch: int, seq: int) -> list[Batch]:
        return input_batches(work.dense.tokenizer, texts, batch, seq, seed=work.settings.seed)

    def progress(done: int, total: int, what: str) -> None:
        work.steps.update("bench", done, total, what)

    settings = bench_settings(work.settings.bench, work.settings.seed)
    result = compare(
        work.dense.path, [_candidate(work)], settings, inputs=inputs, labels=("dense", "pruned"), progress=progress
    )
    return result.to_dict()


def _candidate(work: Workspace) -> Path:
    """The artifact that is deployed; where PyTorch is measured too, the checkpoint, which ONNX Runtime exports anew."""
    only_onnx = all(runtime.startswith("ort-") for runtime in work.settings.bench.runtime)
    return work.folder.deploy if only_onnx else work.folder.compact


def bench_settings(grid: BenchGrid, seed: int) -> BenchSettings:
    """The benchmark's own settings from the run's."""
    return BenchSettings(
        runtimes=grid.runtime,
        batches=grid.batch,
        seqs=grid.seq,
        threads=grid.threads,
        blocks=grid.blocks,
        warmup_seconds=grid.warmup_seconds,
        seed=seed,
        headline_clock=grid.clock,
    )


def _scores(evaluation: Evaluation | None) -> Facts:
    if evaluation is None:
        return {"metric": None, "others": {}}
    metric = {"name": evaluation.metric.name, "value": evaluation.metric.value, "n": evaluation.metric.n}
    return {"metric": metric, "others": evaluation.others}


STAGES: dict[str, Callable[[Workspace], Facts]] = {
    "baseline": baseline,
    "prune": prune,
    "export": export,
    "evaluate": evaluate,
    "bench": bench,
}


def run_stage(name: str, work: Workspace) -> Facts:
    """Run one stage and mark it as finished, or return the facts of a finished one."""
    finished = work.folder.facts(name)
    if finished is not None:
        return finished
    start = time.perf_counter()
    with work.steps.stage(name):
        facts = {**STAGES[name](work), "seconds": 0.0}
    facts["seconds"] = time.perf_counter() - start
    work.folder.finish(name, facts)
    return facts
