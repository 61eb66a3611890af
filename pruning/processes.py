"""One process, or several that accelerate or torchrun launched: all train; the main one does the rest, and writes.

The others wait and then read what it wrote, so that every file has one writer and all continue from the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

from pruning.errors import InputError

LONGEST_WAIT = timedelta(hours=24)
"""Pruning and evaluating a large model takes the main process longer than the usual half hour."""


def process_count() -> int:
    """How many processes train together.

    Raises:
        InputError: if several are announced, but not which of them this one is.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and "RANK" not in os.environ:
        raise InputError(
            f"WORLD_SIZE is {count} and RANK is not set. Start with accelerate launch or torchrun, or unset WORLD_SIZE."
        )
    return count


def process_rank() -> int:
    """Which of them this one is, from 0."""
    return int(os.environ.get("RANK", "0")) if process_count() > 1 else 0


def is_main_process() -> bool:
    """Whether this one writes."""
    return process_rank() == 0


def on_main_process(work: Callable[[], object], *, cpu: bool) -> None:
    """Do ``work`` in the main process; the others wait until it is done.

    Args:
        work: leaves what the others need on disk, which all of them see.
        cpu: whether the processes train on CPUs even if there are GPUs.
    """
    if is_main_process():
        work()
    wait_for_all(cpu=cpu)


def wait_for_all(*, cpu: bool) -> None:
    """Return once every process has come here."""
    if process_count() > 1:
        from accelerate import PartialState  # noqa: PLC0415  # heavy, and one process needs none

        PartialState(cpu=cpu, timeout=LONGEST_WAIT).wait_for_everyone()
