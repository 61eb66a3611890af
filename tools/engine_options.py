"""The TensorRT options of ``slimbert export``, as the builder wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exporter.engine.options import EngineOptions, EnginePrecision, Library
from exporter.engine.profile_shapes import profile_from_text
from pruning.errors import InputError
from tools.options import names

OPTIONS = (
    "target",
    "profile",
    "timing_cache",
    "optimization_level",
    "version_compatible",
    "hardware_compatibility",
    "tf32",
)
"""Of the command line; unset they are None, empty or False."""


def engine_options_from_given(library: Library | None, dtype: str, given: Mapping[str, Any]) -> EngineOptions | None:
    """How to build the engine; None if no engine is asked for.

    Args:
        library: that builds it, None for none.
        dtype: precision of the engine.
        given: all options of the command by name.

    Raises:
        InputError: if an option is for engines and there is none, or the library does not know it.
    """
    asked = [f"--{name.replace('_', '-')}" for name in OPTIONS if _is_set(given[name])]
    if library is None:
        if asked:
            raise InputError(
                f"{', '.join(asked)} is for engines: --to tensorrt, --to tensorrt-rtx, or --to triton with --backend "
                "tensorrt. Leave it out."
            )
        return None
    given = {"hardware_compatibility": "none", **{name: value for name, value in given.items() if value is not None}}
    return EngineOptions(
        library,
        EnginePrecision(dtype),
        profiles=tuple(profile_from_text(text) for text in given.get("profile", ())),
        targets=names(given["target"]),
        optimization_level=given.get("optimization_level"),
        timing_cache=given.get("timing_cache"),
        version_compatible=given["version_compatible"],
        hardware_compatibility=given["hardware_compatibility"],
        tf32=given["tf32"],
    )


def _is_set(value: object) -> bool:
    """0 is a level like any other."""
    return bool(value) or (isinstance(value, int) and not isinstance(value, bool))
