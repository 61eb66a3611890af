"""The two TensorRT libraries, imported when needed, and the one logger that each may have."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from exporter.engine.options import Library
from pruning.errors import InputError

OLDEST = {Library.TENSORRT: (10, 16), Library.TENSORRT_RTX: (1, 7)}
NEWEST_MAJOR = {Library.TENSORRT: 11, Library.TENSORRT_RTX: 1}
STRONGLY_TYPED_SINCE = 11
"""Major version of tensorrt from which every network is strongly typed, and the flag is deprecated."""


@dataclass(frozen=True)
class TensorRt:
    """An imported library. ``api`` is its module, without types."""

    library: Library
    api: Any
    version: tuple[int, ...]

    @property
    def version_text(self) -> str:
        """Such as "10.16.1.11"."""
        return ".".join(map(str, self.version))

    @property
    def network_flags(self) -> int:
        """What ``create_network`` needs so that types come from the graph: nothing since TensorRT 11."""
        if self.library == Library.TENSORRT and self.version[0] >= STRONGLY_TYPED_SINCE:
            return 0
        return 1 << int(self.api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    @property
    def logger(self) -> Any:
        """The process's logger for this library, see `_logger_class`."""
        return _logger(self.api)


def import_tensorrt(library: Library) -> TensorRt:
    """Import a library.

    Raises:
        InputError: if it is missing, cannot be loaded, or is too old or too new; the extra to install is named.
    """
    extra = f'pip install "slimbert[{library}]"'
    try:
        api = importlib.import_module(library.module)
    except ImportError as error:
        raise InputError(
            f"{library} is not installed, or cannot be loaded ({error}); install it with: {extra}"
        ) from error
    version = tuple(int(part) for part in api.__version__.split(".") if part.isdigit())
    if version[:2] < OLDEST[library] or version[0] > NEWEST_MAJOR[library]:
        oldest = ".".join(map(str, OLDEST[library]))
        raise InputError(
            f"{library} {api.__version__} is not supported: it must be at least {oldest} and at most "
            f"{NEWEST_MAJOR[library]}.x; install it with: {extra}"
        )
    return TensorRt(library, api, version)


@cache
def _logger(api: Any) -> Any:
    """TensorRT keeps the first logger of a process for everything: there must be one, and it must live on."""
    return _logger_class(api)()


def _logger_class(api: Any) -> Any:
    class RecordingLogger(api.ILogger):
        """Keeps messages as (severity name, text) in ``messages``; whoever starts a build clears it."""

        def __init__(self) -> None:
            api.ILogger.__init__(self)
            self.messages: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any thread."""
            self.messages.append((severity.name, message))

    return RecordingLogger
