"""A background thread that takes readings at a steady pace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar, final

from pruning.errors import InputError

PERIOD_S = 0.05
"""20 readings a second: twice what a tenth of a second needs."""

Reading = TypeVar("Reading")


@final
class Sampler(Generic[Reading]):
    """Calls ``read`` every ``period_s`` seconds between entering and leaving, and once more at each end.

    An exception in ``read`` stops the thread and is raised when the sampler is left: a measurement without its
    telemetry must not pass for one with it.

    Raises:
        InputError: if the period is not positive.
    """

    def __init__(self, read: Callable[[], Reading], period_s: float = PERIOD_S) -> None:
        if period_s <= 0:
            raise InputError(f"the time between readings must be positive; got {period_s} s.")
        self._read, self._period_s = read, period_s
        self._samples: list[Reading] = []
        self._failure: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="slimbert-telemetry", daemon=True)

    @property
    def samples(self) -> tuple[Reading, ...]:
        """All readings so far."""
        return tuple(self._samples)

    def __enter__(self) -> Self:
        self._samples.append(self._read())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure
        if self._failure is None:
            self._samples.append(self._read())

    def _loop(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._samples.append(self._read())
            except Exception as failure:  # noqa: BLE001  # handed to the thread that measures
                self._failure = failure
                return
