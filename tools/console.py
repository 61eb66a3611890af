"""What goes where: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@dataclass
class OutputMode:
    """Set once by the command line: ``quiet`` drops progress and prose, ``as_json`` prints one JSON document."""

    quiet: bool = False
    as_json: bool = False


mode = OutputMode()
stdout = Console(soft_wrap=True, highlight=False)
stderr = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line of prose for people; machines and quiet users do not get it."""
    if not (mode.quiet or mode.as_json):
        stdout.print(text, markup=False)


def show(renderable: object) -> None:
    """A table or panel for people."""
    if not (mode.quiet or mode.as_json):
        stdout.print(renderable)


def print_json(data: object) -> None:
    """The machine-readable result, if it was asked for."""
    if mode.as_json:
        stdout.print(json.dumps(data, indent=2, allow_nan=False), markup=False)


class Steps:
    """A live progress display of named phases; silent when quiet or when standard error is no terminal."""

    def __init__(self) -> None:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[what]}"),
        )
        self._bars = Progress(*columns, console=stderr, disable=mode.quiet or not stderr.is_terminal)
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, phase: str, done: int, total: int, what: str = "") -> None:
        """Show that ``done`` of ``total`` steps of ``phase`` are done."""
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total, what=what)
        self._bars.update(self._tasks[phase], completed=done, total=total, what=what)  # type: ignore[arg-type]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage that takes a while, and its end."""
        if not mode.quiet and not stderr.is_terminal:
            stderr.print(f"{name} ...", markup=False)
        self.update(name, 0, 1)
        yield
        self.update(name, 1, 1)
