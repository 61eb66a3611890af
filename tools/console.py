"""What goes where: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pruning.processes import is_main_process


@dataclass
class OutputMode:
    """Set once by the command line: ``quiet`` drops progress and prose, ``as_json`` prints one JSON document."""

    quiet: bool = False
    as_json: bool = False


FEWEST_LINES, SLOW_SECONDS = 50, 5.0
"""Phases with fewer steps print no lines of progress, unless they take longer: they are over soon."""

FILE_WIDTH = 140
"""Columns of a table in a file or pipe: enough for every figure to stay on its line."""

mode = OutputMode()
stdout = Console(soft_wrap=True, highlight=False)
"""Of the main process alone: `exit_code_from` silences the others'."""
stderr = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line of prose for people; machines and quiet users do not get it."""
    if not (mode.quiet or mode.as_json):
        stdout.print(text, markup=False)


def show(renderable: object) -> None:
    """A table or panel for people."""
    if not (mode.quiet or mode.as_json):
        stdout.print(renderable, width=None if stdout.is_terminal else FILE_WIDTH)


def print_json(data: object) -> None:
    """The machine-readable result, if it was asked for."""
    if mode.as_json:
        stdout.print(json.dumps(data, indent=2, allow_nan=False), markup=False)


class Steps:
    """Progress of named phases on standard error: live bars on a terminal, else a line every tenth; silent if quiet.

    Of several processes only the main one shows any.
    """

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[what]}"),
        )
        self._silent = mode.quiet or not is_main_process()
        self._live = stderr.is_terminal and not self._silent
        self._bars = Progress(*columns, console=stderr, disable=not self._live)
        self._tasks: dict[str, TaskID] = {}
        self._tenths: dict[str, int] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, phase: str, done: int, total: int, what: str = "") -> None:
        """Show that ``done`` of ``total`` steps of ``phase`` are done."""
        if not self._live:
            self._line(phase, done, total, what)
            return
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total, what=what)
        self._bars.update(self._tasks[phase], completed=done, total=total, what=what)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage that takes a while, and its end."""
        self.note(f"{name} ...")
        yield

    def note(self, text: str) -> None:
        """A line that stays."""
        if not self._silent:
            self._bars.console.print(text, markup=False)

    def _line(self, phase: str, done: int, total: int, what: str) -> None:
        tenth, now = done * 10 // total, time.monotonic()
        slow = now - self._started.setdefault(phase, now) >= SLOW_SECONDS
        if (slow or total >= FEWEST_LINES) and tenth > self._tenths.get(phase, 0):
            self._tenths[phase] = tenth
            self.note(f"{phase}: {done} of {total} {what}".rstrip() + " ...")
