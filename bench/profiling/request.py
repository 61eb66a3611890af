"""What a profiler is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.runners.base import DEFAULTS, RunnerOptions
from pruning.batching import Batch


@dataclass(frozen=True)
class ProfileRequest:
    """A model, and how it is to be run.

    Args:
        path: as a runner of the runtime prepared it.
        batches: to run, at least one.
        threads: CPU threads.
        scratch: an empty folder for what the profiler has to write.
        options: precision and GPU, as the runner was loaded with.
    """

    path: Path
    batches: Sequence[Batch]
    threads: int
    scratch: Path
    options: RunnerOptions = DEFAULTS
