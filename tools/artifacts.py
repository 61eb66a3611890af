"""What a run deployed and refused, in the terms of its report."""

from __future__ import annotations

from pathlib import Path

from bench.report.schema import ArtifactFacts, Metric, NotShipped, Ratio
from bench.result import BenchResult
from exporter.engine.builder import gpu_name_and_capability
from exporter.engine.library import import_tensorrt
from exporter.engine.options import Library
from pruning.errors import InputError
from tools.workspace import DEPLOYED_GRAPH, Facts, Workspace


def check_buildable(library: str) -> None:
    """Do nothing if engines of this library can be built here.

    Raises:
        InputError: if the library is not installed, or needs a GPU and there is none.
    """
    import_tensorrt(Library(library))
    if library == Library.TENSORRT and gpu_name_and_capability() is None:
        raise InputError(
            "tensorrt builds on the GPU that the engine is for, and there is none here; run there, or pass "
            "--export tensorrt-rtx, which needs no GPU."
        )


def artifact_facts(work: Workspace, facts: dict[str, Facts]) -> tuple[ArtifactFacts, ...]:
    """Every deployed file with its score and its speed, as far as they were measured."""
    refused = {x["artifact"] for x in facts["parity"]["not_shipped"]}
    scores = facts["evaluate"]["artifacts"]
    metrics = {name: Metric(**found["metric"]) for name, found in scores.items() if found["metric"]}
    ratios = _speedups(work, facts["bench"])
    return tuple(
        ArtifactFacts(
            **written,
            metric=metrics.get(written["path"]),
            metric_change=_change(metrics, written["path"]),
            speedup=ratios.get(written["path"]),
        )
        for written in facts["export"]["artifacts"]
        if written["path"] not in refused
    )


def not_shipped(work: Workspace, facts: dict[str, Facts]) -> tuple[NotShipped, ...]:
    """Everything that broke its tolerance."""
    asked = work.settings.export.dtype is not None
    return tuple(
        NotShipped(**refused, asked=asked) for name in ("export", "parity") for refused in facts[name]["not_shipped"]
    )


def _change(metrics: dict[str, Metric], path: str) -> float | None:
    if path not in metrics or path == DEPLOYED_GRAPH:
        return None
    return metrics[path].value - metrics[DEPLOYED_GRAPH].value


def _speedups(work: Workspace, facts: Facts) -> dict[str, Ratio]:
    """Of every file that was timed, over the dense model in the headline's cell."""
    result = BenchResult.from_dict({name: value for name, value in facts.items() if name != "seconds"})
    graphs = {Path(name).name: name for name in work.shipped_graphs}
    ratios = {Path(model.path).name: result.comparison(result.cells[0], model.key).ratio for model in result.candidates}
    return {
        graphs[name]: Ratio(value=ratio.value, ci95=(ratio.low, ratio.high))
        for name, ratio in ratios.items()
        if name in graphs
    }
