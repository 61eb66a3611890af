"""How much each step gives on the way from the first model to the last: runtime, precision, pruning, in order."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bench.cell import BASELINE, Cell
from bench.result import BenchModel, BenchResult
from bench.statistics import Comparison
from pruning.errors import InputError


@dataclass(frozen=True)
class Rung:
    """One model of the ladder.

    Args:
        label: of the model.
        changed: what is different from the rung before, in words.
        p50_ms: its median latency.
        step: against the rung before; None for the first.
        total: against the first rung; None for the first.
    """

    label: str
    changed: str
    p50_ms: float
    step: Comparison | None
    total: Comparison | None


def ladder_from_cell(result: BenchResult, cell: Cell) -> tuple[Rung, ...]:
    """The baseline and the candidates in the order given, each compared with the one before.

    Steps are paired measurements like any other, so their product is close to, and not exactly, the total.
    """
    models, clock, seed = result.models, result.settings.headline_clock, result.settings.seed
    rungs = [Rung(models[0].label, "start", cell.latency(BASELINE, clock).p50_ms, None, None)]
    for before, model in pairwise(models):
        rungs.append(
            Rung(
                label=model.label,
                changed=_changed(result, cell, before, model),
                p50_ms=cell.latency(model.key, clock).p50_ms,
                step=cell.comparison(model.key, clock, seed=seed, against=before.key),
                total=cell.comparison(model.key, clock, seed=seed),
            )
        )
    return tuple(rungs)


def require_ladder(result: BenchResult) -> None:
    """Refuse a ladder of a single step: it would repeat the table above it.

    Raises:
        InputError: if there are fewer than two candidates.
    """
    if len(result.candidates) < 2:
        raise InputError(
            "--ladder needs at least two candidates, each a step further than the one before, such as "
            "my-bert@torch-cpu my-bert@ort-cpu out/compact@ort-cpu."
        )


def _flops_text(fewer: float) -> str:
    return f"pruning, {fewer:.2f}x fewer FLOPs" if fewer >= 1 else f"another shape, {1 / fewer:.2f}x more FLOPs"


def _changed(result: BenchResult, cell: Cell, before: BenchModel, after: BenchModel) -> str:
    """Runtime and precision as the runners reported them; the architecture as FLOPs; otherwise another file."""
    changes = [
        f"{name} {values[before.key]} → {values[after.key]}"
        for name, values in (("runtime", cell.runtimes), ("precision", cell.dtypes))
        if values[before.key] != values[after.key]
    ]
    flops = [result.ideal(cell, model.key) for model in (before, after)]
    if flops[0] and flops[1] and before.arch != after.arch:
        changes.append(_flops_text(flops[1] / flops[0]))
    return ", ".join(changes) or "another file of the same architecture"
