"""The raw samples behind a latency table: kept block by block, so that a stopped measurement goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.samples_file import json_object
from bench.table_probes import Probe
from pruning.atomic import write_text
from pruning.errors import InputError
from pruning.latency_table import TableIdentity

SCHEMA = 1
WHAT = "latency table samples"

ProbeBlock = tuple[tuple[float, ...], ...]
"""Milliseconds of the calls of one block, by probe."""


@dataclass(frozen=True)
class TableSamples:
    """What was measured of a table so far; the table is computed from it and nothing else.

    Args:
        identity: of the table.
        clock: that read the samples.
        seed: of the order and the inputs.
        probes: in the order of their samples.
        blocks_ms: one entry per finished block.

    Raises:
        InputError: if a block lacks a probe.
    """

    identity: TableIdentity
    clock: str
    seed: int
    probes: tuple[Probe, ...]
    blocks_ms: tuple[ProbeBlock, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(block) for block in self.blocks_ms} - {len(self.probes)}
        if counts:
            raise InputError(f"every block needs {len(self.probes)} probes; got one with {min(counts)}.")

    def with_block(self, block_ms: ProbeBlock) -> TableSamples:
        """The same and one block more."""
        return replace(self, blocks_ms=(*self.blocks_ms, block_ms))

    def by_probe(self) -> dict[Probe, list[float]]:
        """All milliseconds of each probe."""
        return {
            probe: [ms for block in self.blocks_ms for ms in block[index]] for index, probe in enumerate(self.probes)
        }

    def require_continues(self, wanted: TableSamples) -> None:
        """Do nothing if these are the first blocks of what is wanted.

        Raises:
            InputError: naming the first difference.
        """
        before, now = ({**vars(x), **vars(x.identity)} for x in (self, wanted))
        for name in (name for name in now if name not in ("identity", "blocks_ms")):
            if before[name] != now[name]:
                found = "" if name == "probes" else f", {before[name]} then, {now[name]} now"
                raise InputError(
                    f"the samples of a latency table cannot be continued: their {name} differ{found}. "
                    "Measure anew, without --resume."
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for ``json.dumps``."""
        return {"schema": SCHEMA, "what": WHAT, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TableSamples:
        """Read what `to_dict` wrote, also after a trip through JSON.

        Raises:
            InputError: if it is something else, or something in it is missing or wrong.
        """
        if (data.get("schema"), data.get("what")) != (SCHEMA, WHAT):
            raise InputError(f"no {WHAT} of schema {SCHEMA}. Measure anew, without --resume.")
        try:
            return TypeAdapter(cls).validate_python({name: x for name, x in data.items() if name not in HEADER})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"damaged {WHAT}: {where}: {first['msg']}. Measure anew, without --resume.") from error


HEADER = ("schema", "what")


def samples_path(table: Path) -> Path:
    """Where the samples of a table are kept: ``table.json`` has ``table.samples.json`` beside it."""
    return table.with_suffix(f".samples{table.suffix}")


def write_table_samples(path: Path, samples: TableSamples) -> None:
    """Replace the file by everything measured so far."""
    write_text(path, json.dumps(samples.to_dict(), allow_nan=False) + "\n")


def read_table_samples(path: Path) -> TableSamples:
    """Read a file of samples.

    Raises:
        InputError: if the file is missing, broken, or something else.
    """
    data = json_object(path, f"{WHAT}, which slimbert bench table keeps beside its table")
    try:
        return TableSamples.from_dict(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
