"""The stages of a run, in order: each reads what the ones before left on disk, and returns plain facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.compare import compare
from bench.inputs import input_batches
from bench.result import BenchSettings
from exporter.deploy import FP16_FILE, INT8_FILE, ONNX_FILE
from exporter.engine.options import EnginePrecision, Library
from exporter.options import Dialect, GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import Parity, ParityError
from exporter.text_cases import text_batches, texts_to_json
from exporter.to_onnx import onnx_from_model
from pruning.arch import ArchSpec
from pruning.atomic import write_json
from pruning.batching import Batch, Encodings, Predict, encode, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.methods.oneshot import OneshotOptions, prune_oneshot
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, Task, settings_from_config
from pruning.tasks.text_data import TextData
from tools.console import Steps
from tools.deploying import DeployRequest, engine_library_options, short_compare, write_artifacts, write_engines
from tools.model_facts import facts_from_model
from tools.run_folder import RunFolder
from tools.settings import BenchGrid, RunSettings
from tools.verification import parity_rows

BENCH_TEXTS = 2000
PARITY_TEXTS = 128
CHOICE_TEXTS = 128
"""Training texts that choose what int8 leaves in fp32; others than those it is checked on."""
DEPLOYED_GRAPH = f"deploy/{ONNX_FILE.as_posix()}"
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
    first_token: bool
    steps: Steps

    @property
    def task(self) -> Task:
        """The task."""
        return task_named(self.settings.task)

    @cached_property
    def compact(self) -> Checkpoint:
        """The pruned checkpoint, read back from disk."""
        return load_checkpoint(self.folder.compact)

    @cached_property
    def parity_texts(self) -> Encodings:
        """Token ids of the first evaluation texts."""
        return self.encoded(self.splits.evaluation.subset(range(min(PARITY_TEXTS, len(self.splits.evaluation)))))

    @property
    def shipped_graphs(self) -> list[str]:
        """ONNX files that are deployed, relative to the run folder, fp32 first."""
        failed = {facts["artifact"] for facts in self.facts("parity")["not_shipped"]}
        names = [facts["path"] for facts in self.facts("export")["artifacts"]]
        return [name for name in names if name.endswith(".onnx") and name not in failed]

    def facts(self, stage: str) -> Facts:
        """What an earlier stage found."""
        facts = self.folder.facts(stage)
        assert facts is not None, f"stage {stage} is not finished"
        return facts

    def encoded(self, rows: TextData) -> Encodings:
        """Rows as token ids, cut as the run asks for."""
        longest = min(self.settings.max_length, self.dense.model.config.max_position_embeddings)
        return encode(self.dense.tokenizer, rows.texts, rows.pairs, max_length=longest)

    def bench_inputs(self, batch: int, seq: int) -> list[Batch]:
        """Real token ids in batches of exactly this shape."""
        texts = self.splits.evaluation.texts[:BENCH_TEXTS]
        return input_batches(self.dense.tokenizer, texts, batch, seq, seed=self.settings.seed)

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
        "rounds": result.rounds,
        "warnings": list(work.calibration.warnings),
        "phases": result.seconds,
    }


def export(work: Workspace) -> Facts:
    """Write ``deploy/`` and the engines, and the texts that they are checked on."""
    asked = work.settings.export
    write_json(work.folder.texts, texts_to_json(work.parity_texts))
    options = GraphOptions(dialect=Dialect(asked.dialect), first_token=asked.first_token)
    settings = _bench_settings(work)
    choice = work.encoded(work.splits.train.sample(CHOICE_TEXTS, work.settings.seed))
    calibration = list(text_batches(choice).values())
    request = DeployRequest(
        dtypes=asked.onnx_dtypes,
        options=options,
        embeddings=asked.quantize_embeddings,
        source=work.dense.path,
        choice=calibration,
        check=list(text_batches(work.parity_texts).values()),
        compare=short_compare(settings, work.bench_inputs),
    )
    shipments = [write_artifacts(work.compact, work.folder.deploy, request)]
    for name in asked.libraries:
        shipments.append(
            write_engines(
                work.compact,
                work.folder.path / name,
                engine_library_options(Library(name), asked.target),
                [EnginePrecision(dtype) for dtype in asked.engine_dtypes],
                graph=replace(options, dialect=Dialect.STANDARD),
                batches=calibration,
            )
        )
    return {
        "artifacts": [facts for shipment in shipments for facts in shipment.artifacts],
        "not_shipped": [facts for shipment in shipments for facts in shipment.not_shipped],
    }


def parity(work: Workspace) -> Facts:
    """Every artifact against the checkpoint, on synthetic masks and real text; what fails is not shipped.

    Raises:
        ParityError: if the fp32 graph fails, without which nothing else is worth having.
    """
    names = [facts["path"] for facts in work.facts("export")["artifacts"]]
    present = [name for name in names if (work.folder.path / name).is_file()]
    rows, not_run = parity_rows(work.compact.model, work.folder.path, present, work.parity_texts)
    failed = [row for row in rows if not row["passed"]]
    if any(row["artifact"] == DEPLOYED_GRAPH for row in failed):
        raise ParityError(
            [Parity(x["artifact"], x["worst_case"], x["max_abs_diff"], x["tolerance"], False) for x in failed]
        )
    return {
        "parity": [row for row in rows if row["passed"]],
        "not_run": not_run,
        "not_shipped": [{"artifact": row["artifact"], "reason": _failure(row)} for row in failed],
    }


def evaluate(work: Workspace) -> Facts:
    """Size of the compact model, and the score of every ONNX file that was made of it."""
    scores = {}
    for name in work.shipped_graphs:
        session = session_from_onnx(work.folder.path / name, threads=EVALUATION_THREADS)
        scores[name] = _scores(work.evaluate(predict_from_session(session)))
    return {**facts_from_model(work.compact.model), **scores[DEPLOYED_GRAPH], "artifacts": scores}


def bench(work: Workspace) -> Facts:
    """Time the dense model against what is deployed in every cell; the raw samples are the facts.

    In ONNX Runtime the dense model is exported like the pruned one, same operators and options. Where other runtimes
    are measured too, each runner prepares both checkpoints in its own way.
    """
    settings = _bench_settings(work)
    if set(settings.runtimes) != {"ort-cpu"}:
        return _compare(work, settings, work.dense.path, {"pruned": work.folder.compact})
    dense = work.folder.state / "dense.onnx"
    try:
        onnx_from_model(work.dense.model, dense, options=_deployed_options(work))
        return _compare(work, settings, dense, {_label(name): work.folder.path / name for name in _timed_graphs(work)})
    finally:
        dense.unlink(missing_ok=True)


def _compare(work: Workspace, settings: BenchSettings, dense: Path, candidates: Mapping[str, Path]) -> Facts:
    def progress(done: int, total: int, what: str) -> None:
        work.steps.update("bench", done, total, what)

    labels, paths = ("dense", *candidates), list(candidates.values())
    return compare(dense, paths, settings, inputs=work.bench_inputs, labels=labels, progress=progress).to_dict()


def _deployed_options(work: Workspace) -> GraphOptions:
    """How the deployed fp32 graph was written."""
    form = next(facts["form"] for facts in work.facts("export")["artifacts"] if facts["path"] == DEPLOYED_GRAPH)
    return GraphOptions(dialect=Dialect(form), first_token=work.settings.export.first_token)


def _timed_graphs(work: Workspace) -> list[str]:
    """fp32 and int8: ONNX Runtime computes fp16 in fp32 on a CPU, where it is no use."""
    return [name for name in work.shipped_graphs if Path(name).name != FP16_FILE.name]


def _label(name: str) -> str:
    return "pruned, int8" if Path(name).name == INT8_FILE.name else "pruned"


def _failure(row: Facts) -> str:
    return (
        f"difference {row['max_abs_diff']:.2e} in the case {row['worst_case']!r}, allowed {row['tolerance']:.1e}; "
        f"{row['agreement']:.1%} of the decisions on real text agree, at least {row['least_agreement']:.1%} must"
    )


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


def _bench_settings(work: Workspace) -> BenchSettings:
    """Those of the run: what it deploys may differ from the dense model in precision, and is compared all the same."""
    return replace(bench_settings(work.settings.bench, work.settings.seed), mixed_precision=True)


def _scores(evaluation: Evaluation | None) -> Facts:
    if evaluation is None:
        return {"metric": None, "others": {}}
    metric = {"name": evaluation.metric.name, "value": evaluation.metric.value, "n": evaluation.metric.n}
    return {"metric": metric, "others": evaluation.others}


STAGES: dict[str, Callable[[Workspace], Facts]] = {
    "baseline": baseline,
    "prune": prune,
    "export": export,
    "parity": parity,
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
