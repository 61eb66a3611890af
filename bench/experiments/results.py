"""Everything that experiments found, as plain data and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.experiments.cold_start import ColdStartResult
from bench.experiments.load import LoadResult
from bench.experiments.throughput import ThroughputResult
from bench.profiling.breakdown import ProfileResult
from pruning.errors import InputError


@dataclass(frozen=True)
class Experiments:
    """One entry per runtime and size that was measured; what was not asked for is empty."""

    throughput: tuple[ThroughputResult, ...] = ()
    load: tuple[LoadResult, ...] = ()
    cold_start: tuple[ColdStartResult, ...] = ()
    profile: tuple[ProfileResult, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data with all samples, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Experiments:
        """Read what `to_dict` wrote, also after a trip through JSON.

        Raises:
            InputError: if something in it is missing or wrong; the first wrong field is named.
        """
        try:
            return TypeAdapter(cls).validate_python(dict(data))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"the experiments are damaged: {where}: {first['msg']}. Measure again.") from error
