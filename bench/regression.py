"""Did anything get slower between two samples files?

Two files are two days, perhaps two machines, so their milliseconds are never compared: each speedup over its own
baseline is, cell by cell, with the intervals of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bench.cell import Cell
from bench.result import BenchResult
from bench.statistics import Comparison, RatioInterval, Verdict
from pruning.errors import InputError


@dataclass(frozen=True)
class Change:
    """One candidate in one cell, then and now. ``comparison.ratio`` is the new speedup over the old one."""

    label: str
    cell: Cell
    old: Comparison
    new: Comparison
    comparison: Comparison

    @property
    def verdict(self) -> Verdict:
        """Faster or slower only outside the noise of both files."""
        return self.comparison.verdict


@dataclass(frozen=True)
class Regression:
    """All candidates and cells that two files share, what only one of them has, and how the files differ otherwise."""

    changes: tuple[Change, ...]
    missing: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def slower(self) -> tuple[Change, ...]:
        """What got slower."""
        return tuple(change for change in self.changes if change.verdict is Verdict.SLOWER)


def regression_from_results(old: BenchResult, new: BenchResult) -> Regression:
    """Pair candidates by name and cells by runtime, workload, batch and sequence length.

    Raises:
        InputError: if the two share no candidate in any cell.
    """
    before, after = (_measured(result) for result in (old, new))
    shared = [key for key in before if key in after]
    if not shared:
        raise InputError("the two samples files share no candidate in any cell, so nothing can be compared.")
    changes = tuple(
        Change(label, cell, then, now, Comparison(ratio_of(now.ratio, then.ratio), ratio_of(now.control, then.control)))
        for (label, _), (cell, then) in ((key, before[key]) for key in shared)
        for _, now in [after[label, cell.identity]]
    )
    only = [
        f"{label}, {cell}: only in the {name} file"
        for name, found, other in (("old", before, after), ("new", after, before))
        for (label, _), (cell, _) in ((key, found[key]) for key in found if key not in other)
    ]
    return Regression(changes, tuple(only), tuple(differences(old, new)))


def ratio_of(new: RatioInterval, old: RatioInterval) -> RatioInterval:
    """Quotient of two independent ratios; each side's interval keeps its own length in logarithms.

    Source: the square-and-add rule for a difference of two estimates (method of variance estimates recovery), Zou and
    Donner 2008, Statistics in Medicine 27:1693.
    """
    value = math.log(new.value) - math.log(old.value)
    below = math.hypot(math.log(new.value / new.low), math.log(old.high / old.value))
    above = math.hypot(math.log(new.high / new.value), math.log(old.value / old.low))
    return RatioInterval(math.exp(value), math.exp(value - below), math.exp(value + above))


def differences(old: BenchResult, new: BenchResult) -> list[str]:
    """Hardware, versions, settings and models that differ, a sentence each."""
    return [
        f"{name}: {before} then, {after} now"
        for name, before, after in (
            *_pairs("", old.environment.to_dict(), new.environment.to_dict()),
            *_pairs("settings: ", vars(old.settings), vars(new.settings)),
            *_pairs("checksum of ", _checksums(old), _checksums(new)),
            ("inputs", old.inputs, new.inputs),
        )
        if before != after
    ]


def _measured(result: BenchResult) -> dict[tuple[str, tuple[str, str, int, int]], tuple[Cell, Comparison]]:
    return {
        (model.label, cell.identity): (cell, result.comparison(cell, model.key))
        for cell in result.cells
        for model in result.candidates
    }


def _checksums(result: BenchResult) -> dict[str, str]:
    return {model.label: model.facts.sha256[:12] for model in result.models if model.facts is not None}


def _pairs(prefix: str, old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Values under the same name, nested names flattened."""
    pairs = []
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            pairs += _pairs(f"{prefix}{name} ", before, after)
        else:
            pairs.append((f"{prefix}{name}", before, after))
    return pairs
