"""Measured milliseconds of every size of every sublayer: plain data, written by ``bench`` and read by pruning.

Standard library and numpy only. Letters: H heads, F ffn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pruning.arch import ArchSpec
from pruning.atomic import write_json
from pruning.budget import Budget, Prices, speedup_budget
from pruning.errors import InputError

SCHEMA = 1
LARGEST_RESIDUAL = 0.10
"""A table whose measurements are further from a rising curve than this share is noise."""
LARGEST_ADDITIVITY_ERROR = 0.05
"""Whole models further than this share from the sum of their sublayers make the table doubtful."""
NOISY = "noisy"
"""The verdict on a table that is refused."""


@dataclass(frozen=True)
class TableIdentity:
    """What a table was measured for; it is right for nothing else. Tables of int8 name the kinds of products in int8.

    ``dialect`` names the operators of the graphs, None where the runtime reads none or has its own; ``device`` the CPU
    or GPU that computes; ``head`` is the task head, which decides what the last layer computes; ``versions`` are those
    of the libraries that run the model; ``heads`` and ``ffn`` are the largest sizes of a layer.
    """

    runtime: str
    dtype: str
    dialect: str | None
    batch: int
    seq: int
    threads: int
    device: str
    versions: Mapping[str, str]
    head: str
    layers: int
    hidden: int
    head_dim: int
    heads: int
    ffn: int
    int8_kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "int8_kinds", tuple(self.int8_kinds))

    @property
    def scenario(self) -> str:
        """What runs, and on what inputs."""
        return f"{self.runtime} {self.dtype}, batch {self.batch}, sequence {self.seq}"

    @property
    def command(self) -> str:
        """How to measure a table of this identity."""
        dialect = "" if self.dialect is None else f"--dialect {self.dialect} "
        kinds = f"--int8-kinds {','.join(self.int8_kinds)} " if self.int8_kinds else ""
        return (
            f"slimbert bench table MODEL --runtime {self.runtime} --dtype {self.dtype} {dialect}{kinds}"
            f"--batch {self.batch} --seq {self.seq} --threads {self.threads} --out table.json"
        )


@dataclass(frozen=True)
class Row:
    """Milliseconds that ``sizes`` of a sublayer take beyond an empty one; 0 at size 0.

    Raises:
        InputError: unless sizes rise from 0, and milliseconds start at 0 and do not fall.
    """

    sizes: tuple[int, ...]
    ms: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "ms", tuple(self.ms))
        rises = len(self.sizes) == len(self.ms) > 0 and self.sizes[0] == 0 and bool(np.all(np.diff(self.sizes) > 0))
        if not (rises and self.ms[0] == 0 and np.isfinite(self.ms).all() and np.all(np.diff(self.ms) >= 0)):
            raise InputError(
                "a row of a latency table needs sizes that rise from 0 and milliseconds that start at 0 and do not "
                f"fall; got {self.sizes} and {self.ms}."
            )

    def prices(self, largest: int) -> np.ndarray:
        """Milliseconds of each size from 0 to ``largest``, interpolated between the measured ones."""
        if largest > self.sizes[-1]:
            raise InputError(f"the latency table ends at size {self.sizes[-1]}, but the model has {largest}.")
        return np.interp(np.arange(largest + 1), self.sizes, self.ms)


@dataclass(frozen=True)
class ShapeCheck:
    """A whole model: the sum of its sublayers in the table, and what it took."""

    arch: str
    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """Distance as a share of what was measured."""
        return abs(self.predicted_ms - self.measured_ms) / self.measured_ms


@dataclass(frozen=True)
class LatencyTable:
    """What sublayers take in one runtime on one device, and how far the measurement can be believed.

    ``heads`` and ``ffn`` are for any layer, ``last_heads`` and ``last_ffn`` for a last layer that only serves the first
    token (None where every token is read), ``floor_ms`` is the time of a model with every sublayer empty. ``residual``
    is the largest distance of a measurement from its row, as a share of the full sublayer; ``checks`` tell how well
    sublayers add up, on the ``clock`` that measured them.
    """

    identity: TableIdentity
    clock: str
    heads: Row
    ffn: Row
    last_heads: Row | None
    last_ffn: Row | None
    floor_ms: float
    residual: float
    checks: tuple[ShapeCheck, ...]

    @property
    def additivity_error(self) -> float:
        """The worst of the checks."""
        return max((check.error for check in self.checks), default=0.0)

    @property
    def verdict(self) -> str:
        """``good``, ``doubtful`` (sublayers do not add up) or ``noisy`` (refused by `require_usable`)."""
        if self.residual > LARGEST_RESIDUAL:
            return NOISY
        return "doubtful" if self.additivity_error > LARGEST_ADDITIVITY_ERROR else "good"

    def require_usable(self) -> None:
        """Do nothing unless the table is noise.

        Raises:
            InputError: if its residual is above `LARGEST_RESIDUAL`.
        """
        if self.verdict == NOISY:
            raise InputError(
                f"the latency table is too noisy: a residual of {self.residual:.0%}, at most "
                f"{LARGEST_RESIDUAL:.0%} is usable. Measure again on a quiet machine: {self.identity.command}"
            )

    def require_identity(self, wanted: TableIdentity) -> None:
        """Do nothing if the table was measured for what is wanted.

        Raises:
            InputError: naming the first difference, and the command that measures the right one.
        """
        for field in fields(TableIdentity):
            found, needed = getattr(self.identity, field.name), getattr(wanted, field.name)
            if found != needed:
                raise InputError(
                    f"the latency table is for another {field.name}: {found}; needed {needed}. "
                    f"Measure a new one: {wanted.command}"
                )

    def prices(self, arch: ArchSpec) -> Prices:
        """Milliseconds per layer and size.

        Raises:
            InputError: if ``arch`` is larger than the table, or of another depth.
        """
        if len(arch.layers) != self.identity.layers:
            raise InputError(f"the latency table is for {self.identity.layers} layers; got {len(arch.layers)}.")
        last = len(arch.layers) - 1
        heads = [self.last_heads if self.last_heads and index == last else self.heads for index in range(last + 1)]
        ffn = [self.last_ffn if self.last_ffn and index == last else self.ffn for index in range(last + 1)]
        return Prices(
            tuple(row.prices(layer.heads) for row, layer in zip(heads, arch.layers, strict=True)),
            tuple(row.prices(layer.ffn) for row, layer in zip(ffn, arch.layers, strict=True)),
            self.floor_ms,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, its own verdict included."""
        return {"schema": SCHEMA, "verdict": self.verdict, "additivity_error": self.additivity_error, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyTable:
        """Read what `to_dict` wrote.

        Raises:
            InputError: if it is of another schema, or something is missing or of the wrong kind.
        """
        if data.get("schema") != SCHEMA:
            raise InputError(f"not a latency table of schema {SCHEMA}; got schema {data.get('schema')!r}.")
        try:
            rows = {
                name: None if data[name] is None else Row(data[name]["sizes"], data[name]["ms"])
                for name in ("heads", "ffn", "last_heads", "last_ffn")
            }
            if rows["heads"] is None or rows["ffn"] is None:
                raise InputError("a latency table needs rows for heads and ffn.")
            return cls(
                identity=TableIdentity(**data["identity"]),
                clock=data["clock"],
                heads=rows["heads"],
                ffn=rows["ffn"],
                last_heads=rows["last_heads"],
                last_ffn=rows["last_ffn"],
                floor_ms=float(data["floor_ms"]),
                residual=float(data["residual"]),
                checks=tuple(ShapeCheck(**check) for check in data["checks"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"not a latency table: {error} is missing or of the wrong kind.") from error

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        write_json(path, self.to_dict())


def load_table(path: Path) -> LatencyTable:
    """Read a table from a JSON file.

    Raises:
        InputError: if the file cannot be read, or is no latency table.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"the latency table {path} cannot be read ({error}). Measure one: slimbert bench table"
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"not a latency table: {path} holds {type(data).__name__}.")
    return LatencyTable.from_dict(data)


def latency_budget(arch: ArchSpec, tables: Sequence[tuple[LatencyTable, float]], speedup: float) -> Budget:
    """The predicted time of the dense model, divided by ``speedup``; several scenarios count by weight.

    Args:
        arch: of the dense model.
        tables: a table and a weight above 0 per scenario. The price of a size is the weighted mean of its shares of
            the dense model's time, so that a slow scenario does not drown a fast one.
        speedup: at least 1.

    Raises:
        InputError: if a table is noise or of other sizes, a weight is not positive, or the speedup is out of reach;
            the reachable one is named, and the share that no pruning removes.
    """
    if not tables or any(not weight > 0 for _, weight in tables):
        raise InputError("a latency budget needs at least one table, and weights above 0.")
    for table, _ in tables:
        table.require_usable()
    total = sum(weight for _, weight in tables)
    priced = [(table.prices(arch), weight / total) for table, weight in tables]
    shares = [(prices, weight / prices.total(arch)) for prices, weight in priced]
    layers = range(len(arch.layers))
    combined = Prices(
        tuple(np.sum([scale * prices.heads[i] for prices, scale in shares], axis=0) for i in layers),
        tuple(np.sum([scale * prices.neurons[i] for prices, scale in shares], axis=0) for i in layers),
        sum(scale * prices.fixed for prices, scale in shares),
    )
    where = "; ".join(f"{x.scenario}, {x.threads} threads" for x in (table.identity for table, _ in tables))
    floor = f"measured time; {combined.fixed:.0%} of it, embeddings, norms and the head, can not be pruned"
    return speedup_budget(arch, combined, speedup, f"time / {speedup:g} on {where}", counted_in=floor)
