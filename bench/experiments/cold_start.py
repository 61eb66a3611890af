"""What the first request costs: load time and first answer, each time in a fresh process.

A fresh process is also the only place where the peak of resident memory is the model's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import TypeAdapter
from safetensors.torch import save_file

from bench.fresh_process import run_module
from pruning.batching import Batch
from pruning.errors import InputError

CHILD_MODULE = "bench.experiments.cold_start_child"
CHUNK_BYTES = 1 << 20


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
    """What a fresh process is to do: load ``prepared`` into a runtime and answer the batch in ``inputs`` twice.

    ``dtype`` is the precision, None for the model's own.
    """

    runtime: str
    prepared: str
    threads: int
    inputs: str
    answer: str
    dtype: str | None = None


Start = Callable[[Path, FileCache], ColdStart]
"""Starts a fresh process on a prepared model whose files are in the given state."""


def repeat_starts(
    prepared: Mapping[str, Path],
    sizes: Mapping[str, int],
    start: Start,
    repeats: int,
    before: Sequence[ColdStartRow] = (),
) -> Iterator[tuple[ColdStartRow, ...]]:
    """Start every model ``repeats`` times in each state of the file cache, taking turns so that drift hits all alike.

    Yields after every start.

    Args:
        prepared: the models by key.
        sizes: bytes of their files.
        start: a fresh process.
        repeats: of each model in each state.
        before: rows to go on with.

    Raises:
        InputError: if ``repeats`` is below 1.
    """
    if repeats < 1:
        raise InputError(f"cold starts need at least one repeat; got {repeats}.")
    found = {(row.key, row.cache): list(row.starts) for row in before}
    for index, cache, key in product(range(repeats), FileCache, prepared):
        if len(found.get((key, cache), ())) <= index:
            found.setdefault((key, cache), []).append(start(prepared[key], cache))
            yield tuple(ColdStartRow(name, state, sizes[name], tuple(x)) for (name, state), x in found.items())


def count_starts(rows: Sequence[ColdStartRow]) -> int:
    """Processes started so far."""
    return sum(len(row.starts) for row in rows)


def start_process(
    runtime: str, threads: int, batch: Batch, prepared: Path, cache: FileCache, *, dtype: str | None = None
) -> ColdStart:
    """Load and answer in a fresh interpreter.

    Raises:
        InputError: if the process fails; its last line says why.
    """
    with TemporaryDirectory(prefix="slimbert-cold-") as folder:
        inputs, answer = Path(folder) / "inputs.safetensors", Path(folder) / "answer.json"
        save_file(batch, inputs)
        task = ColdStartTask(runtime, str(prepared), threads, str(inputs), str(answer), dtype)
        set_file_cache(prepared, cache)
        failure = f"a fresh process could not load {prepared} in {runtime}"
        run_module(CHILD_MODULE, json.dumps(asdict(task)), failure)
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
