"""CPUs of one's own among processes that do not know each other: a lock file per CPU, held as long as it is used."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

if sys.platform == "linux":
    import fcntl

POLL_SECONDS = 0.2


@contextmanager
def leased_cpus(count: int, folder: Path | None = None) -> Iterator[tuple[int, ...]]:
    """Inside, this thread runs on ``count`` CPUs that no other lease of this machine holds; waits until there are.

    Where the system can not bind processes to CPUs, nothing is leased. Locks vanish with their process.

    Args:
        count: CPUs wanted; no more than this process may use are taken.
        folder: of the lock files, the same for all who share the machine.

    Yields:
        The CPUs; none where they can not be bound.
    """
    if sys.platform != "linux":
        yield ()
        return
    allowed = os.sched_getaffinity(0)
    held = _wait(sorted(allowed), min(count, len(allowed)), folder or Path(gettempdir()))
    try:
        os.sched_setaffinity(0, held)
        yield tuple(held)
    finally:
        os.sched_setaffinity(0, allowed)
        for lock in held.values():
            os.close(lock)


def _wait(allowed: list[int], count: int, folder: Path) -> dict[int, int]:
    while True:
        held: dict[int, int] = {}
        for cpu in allowed:
            lock = _try_lock(folder / f"slimbert-cpu-{cpu}.lock") if len(held) < count else None
            if lock is not None:
                held[cpu] = lock
        if len(held) == count:
            return held
        for lock in held.values():
            os.close(lock)
        time.sleep(POLL_SECONDS)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None if another does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
