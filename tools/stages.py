"""The stages of a run, in order: each reads what the ones before left on disk, and returns plain facts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.compare import compare
from bench.result import BenchSettings
from bench.runners.base import Precision
from exporter.deploy import FP16_FILE
from exporter.engine.options import EnginePrecision, Library
from exporter.options import Dialect
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import Parity, ParityError
from exporter.text_cases import texts_to_json
from pruning.atomic import write_json
from pruning.batching import predict_from_model
from pruning.tasks.task import Evaluation
from tools.deploying import DeployRequest, engine_library_options, short_compare, write_artifacts, write_engines
from tools.drop_pruning import prune_within_drop
from tools.int8_graphs import dense_graph, run_kinds
from tools.measured_pruning import prune_in_rounds, prune_to_target
from tools.model_facts import facts_from_model
from tools.verification import parity_rows
from tools.workspace import DEPLOYED_GRAPH, INT8_GRAPH, Facts, Workspace

EVALUATION_THREADS = 2


def baseline(work: Workspace) -> Facts:
    """Size and score of the dense model."""
    evaluation = work.evaluate(predict_from_model(work.dense.model))
    return {**facts_from_model(work.dense.model), **_scores(evaluation)}


def prune(work: Workspace) -> Facts:
    """Prune, and write ``compact/``: once for a target that is known, else in rounds that are measured or scored."""
    if work.settings.prune.target.max_drop is not None:
        return prune_within_drop(work)
    if work.settings.prune.price.measured:
        return prune_in_rounds(work)
    assert work.target is not None
    return prune_to_target(work, work.target, work.folder.compact)


def export(work: Workspace) -> Facts:
    """Write ``deploy/`` and the engines, and the texts that they are checked on."""
    asked = work.settings.export
    write_json(work.folder.texts, texts_to_json(work.parity_texts))
    options = work.graph_options(Dialect(asked.dialect))
    request = DeployRequest(
        dtypes=asked.onnx_dtypes,
        options=options,
        embeddings=asked.quantize_embeddings,
        source=work.dense.path,
        texts=work.int8_texts,
        compare=short_compare(work.bench_settings, work.bench_inputs),
        int8_kinds=run_kinds(work) if work.settings.headline_dtype == Precision.INT8 else None,
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
                texts=work.int8_texts,
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
    return {**facts_from_model(work.compact.model), **scores[work.headline_graph], "artifacts": scores}


def bench(work: Workspace) -> Facts:
    """Time the dense model against what is deployed in every cell; the raw samples are the facts.

    In ONNX Runtime the dense model is exported like the headline's file: same operators, options and precision. Where
    other runtimes are measured too, each runner prepares both checkpoints in its own way.
    """
    settings = work.bench_settings
    if set(settings.runtimes) != {"ort-cpu"}:
        return _compare(work, settings, {"dense": work.dense.path}, {"pruned": work.folder.compact})
    in_int8 = work.headline_graph == INT8_GRAPH
    dtype = Precision.INT8 if in_int8 else Precision.FP32
    with TemporaryDirectory(dir=work.folder.state, prefix="export-") as scratch:
        dense = dense_graph(work, _deployed_dialect(work), dtype, Path(scratch))
        candidates = {_label("pruned", name): work.folder.path / name for name in _timed_graphs(work)}
        return _compare(work, settings, {_label("dense", work.headline_graph): dense}, candidates)


def _compare(
    work: Workspace, settings: BenchSettings, dense: Mapping[str, Path], candidates: Mapping[str, Path]
) -> Facts:
    def progress(done: int, total: int, what: str) -> None:
        work.steps.update("bench", done, total, what)

    labels, (baseline, *paths) = (*dense, *candidates), (*dense.values(), *candidates.values())
    return compare(baseline, paths, settings, inputs=work.bench_inputs, labels=labels, progress=progress).to_dict()


def _deployed_dialect(work: Workspace) -> Dialect:
    """How the deployed fp32 graph was written."""
    form = next(facts["form"] for facts in work.facts("export")["artifacts"] if facts["path"] == DEPLOYED_GRAPH)
    return Dialect(form)


def _timed_graphs(work: Workspace) -> list[str]:
    """fp32 and int8, the headline's first: ONNX Runtime computes fp16 in fp32 on a CPU, where it is no use."""
    timed = [name for name in work.shipped_graphs if Path(name).name != FP16_FILE.name]
    return sorted(timed, key=lambda name: name != work.headline_graph)


def _label(model: str, graph: str) -> str:
    return f"{model}, int8" if graph == INT8_GRAPH else model


def _failure(row: Facts) -> str:
    return (
        f"difference {row['max_abs_diff']:.2e} in the case {row['worst_case']!r}, allowed {row['tolerance']:.1e}; "
        f"{row['agreement']:.1%} of the decisions on real text agree, at least {row['least_agreement']:.1%} must"
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
