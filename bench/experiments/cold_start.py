"""What the first request costs: load time and first answer, each time in a fresh process.

A fresh process is also the only place where the peak of resident memory is the model's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import TypeAdapter
from safetensors.torch import save_file

from pruning.batching import Batch
from pruning.errors import InputError

CHILD_MODULE = "bench.experiments.cold_start_child"
CHUNK_BYTES = 1 << 20
ROOT = Path(__file__).parents[2]


class FileCache(StrEnum):
    """Where the model's files are when it is loaded."""

    WARM = "in memory"
    DROPPED = "on disk"


@dataclass(frozen=True)
class ColdStart:
    """One fresh process, after its libraries were imported.

    ``resident_before_bytes`` is what the process held before loading; ``peak_resident_bytes`` the most it ever held,
    None where the system does not say.
    """

    imports_s: float
    load_s: float
    first_answer_s: float
    second_answer_s: float
    resident_before_bytes: int
    peak_resident_bytes: int | None

    @property
    def ready_s(self) -> float:
        """From the imported libraries to the first answer."""
        return self.load_s + self.first_answer_s


@dataclass(frozen=True)
class ColdStartRow:
    """One model in one state of the file cache, started several times.

    Raises:
        InputError: if it was never started.
    """

    key: str
    cache: FileCache
    file_bytes: int
    starts: tuple[ColdStart, ...]

    def __post_init__(self) -> None:
        if not self.starts:
            raise InputError("a cold start needs at least one process; start one.")

    def median_s(self, name: str) -> float:
        """Median of one of the times, by its field."""
        return float(np.median([getattr(start, name) for start in self.starts]))

    @property
    def peak_resident_bytes(self) -> int | None:
        """Median of the peaks; None where the system does not say."""
        peaks = [start.peak_resident_bytes for start in self.starts if start.peak_resident_bytes is not None]
        return int(np.median(peaks)) if peaks else None

    @property
    def model_bytes(self) -> int | None:
        """What loading and answering added to the process: peak less what it held before."""
        added = [
            start.peak_resident_bytes - start.resident_before_bytes
            for start in self.starts
            if start.peak_resident_bytes is not None
        ]
        return int(np.median(added)) if added else None


@dataclass(frozen=True)
class ColdStartResult:
    """All models in one runtime, answering one batch."""

    runtime: str
    batch: int
    seq: int
    rows: tuple[ColdStartRow, ...]


@dataclass(frozen=True)
class ColdStartTask:
    """What a fresh process is to do: load ``prepared`` into a runtime and answer the batch in ``inputs`` twice."""

    runtime: str
    prepared: str
    threads: int
    inputs: str
    answer: str


Start = Callable[[Path, FileCache], ColdStart]
"""Starts a fresh process on a prepared model whose files are in the given state."""


def repeat_starts(
    prepared: Mapping[str, Path],
    sizes: Mapping[str, int],
    start: Start,
    repeats: int,
    on_start: Callable[[str], None] = lambda what: None,
) -> tuple[ColdStartRow, ...]:
    """Start every model ``repeats`` times in each state of the file cache, taking turns so that drift hits all alike.

    Raises:
        InputError: if ``repeats`` is below 1.
    """
    if repeats < 1:
        raise InputError(f"cold starts need at least one repeat; got {repeats}.")
    found: dict[tuple[str, FileCache], list[ColdStart]] = {}
    for index in range(repeats):
        for cache in FileCache:
            for key, path in prepared.items():
                found.setdefault((key, cache), []).append(start(path, cache))
                on_start(f"{key}, files {cache}, start {index + 1} of {repeats}")
    return tuple(ColdStartRow(key, cache, sizes[key], tuple(starts)) for (key, cache), starts in found.items())


def start_process(runtime: str, threads: int, batch: Batch, prepared: Path, cache: FileCache) -> ColdStart:
    """Load and answer in a fresh interpreter.

    Raises:
        InputError: if the process fails; its last line says why.
    """
    with TemporaryDirectory(prefix="slimbert-cold-") as folder:
        inputs, answer = Path(folder) / "inputs.safetensors", Path(folder) / "answer.json"
        save_file(batch, inputs)
        task = ColdStartTask(runtime, str(prepared), threads, str(inputs), str(answer))
        set_file_cache(prepared, cache)
        done = subprocess.run(  # our own interpreter and module
            [sys.executable, "-m", CHILD_MODULE, json.dumps(asdict(task))],
            env=os.environ | {"PYTHONPATH": _search_path()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not answer.is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"a fresh process could not load {prepared} in {runtime}: {reason}")
        return TypeAdapter(ColdStart).validate_json(answer.read_text(encoding="utf-8"))


def set_file_cache(path: Path, state: FileCache) -> None:
    """Read a model's files into memory, or ask the kernel to forget them; it is free to keep them.

    Raises:
        InputError: if they are to be forgotten and this system cannot be asked.
    """
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    for file in files:
        with file.open("rb", buffering=0) as stream:
            if state is FileCache.WARM:
                while stream.read(CHUNK_BYTES):
                    pass
            else:
                _forget(stream.fileno())


def _forget(descriptor: int) -> None:
    if sys.platform != "linux":
        raise InputError("the file cache can be dropped on Linux alone; measure cold starts there.")
    os.fdatasync(descriptor)  # pages that are not on the disk yet cannot be dropped
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _search_path() -> str:
    """Where the fresh process finds this package, whether it is installed or not."""
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
