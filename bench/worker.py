"""One repetition in a fresh interpreter: ``python -m bench.worker FOLDER``, and the side that starts it.

The folder holds ``job.json`` and, for real texts, one file of token ids per cell. The worker answers with lines of
JSON on what was its standard output; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from pydantic import TypeAdapter

from bench.batch_files import load_batches, save_batches
from bench.cell import Cell
from bench.contestants import InputSource
from bench.fresh_process import search_path
from bench.process import Missing, ProcessJob, Watch, measure_process
from bench.result import BenchModel, BenchSettings
from pruning.batching import Batch
from pruning.errors import InputError

JOB = "job.json"
INTERRUPTED = 130


def measure_in_fresh_process(job: ProcessJob, watch: Watch) -> None:
    """As `measure_process`, in a new interpreter; an interrupt is passed on, and what was measured is still taken in.

    Raises:
        InputError: as `measure_process`, or if the process dies.
    """
    with TemporaryDirectory(prefix="slimbert-process-") as folder, (Path(folder) / "stderr").open("w+") as errors:
        write_job(job, Path(folder))
        with subprocess.Popen(
            [sys.executable, "-m", "bench.worker", folder],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": search_path()},
            text=True,
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone, and is passed on once
        ) as process:
            assert process.stdout is not None
            try:
                _take_in(process.stdout, watch)
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                _take_in(process.stdout, watch)
                process.wait()
                raise
        if process.returncode:
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"a measuring process ended with exit code {process.returncode}: {last}")


def write_job(job: ProcessJob, folder: Path) -> None:
    """Put a job where a worker finds it: plain data, and the token ids of its cells."""
    data = {
        "models": [asdict(model) for model in job.models],
        "settings": asdict(job.settings),
        "process": job.process,
        "missing": [[list(key), asdict(lacks)] for key, lacks in job.missing.items()],
        "workloads": list(job.sources),
    }
    (folder / JOB).write_text(json.dumps(data), encoding="utf-8")
    for workload, B, S in {key[1:] for key in job.missing if key[1] in job.sources}:
        save_batches(job.sources[workload](B, S), _inputs_file(folder, workload, B, S))


def read_job(folder: Path) -> ProcessJob:
    """Read what `write_job` wrote."""
    data = json.loads((folder / JOB).read_text(encoding="utf-8"))
    sources: dict[str, InputSource] = {name: partial(_read_inputs, folder, name) for name in data["workloads"]}
    return ProcessJob(
        models=TypeAdapter(tuple[BenchModel, ...]).validate_python(data["models"]),
        settings=TypeAdapter(BenchSettings).validate_python(data["settings"]),
        process=data["process"],
        missing={
            (key[0], key[1], key[2], key[3]): TypeAdapter(Missing).validate_python(lacks)
            for key, lacks in data["missing"]
        },
        sources=sources,
    )


def main(folder: Path) -> int:
    """Do the job in ``folder``; returns the exit code."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(kind: str, value: object) -> None:
        channel.write(json.dumps({kind: value}) + "\n")

    try:
        measure_process(read_job(folder), Watch(partial(tell, "step"), lambda cell: tell("cell", asdict(cell))))
    except InputError as error:
        tell("refused", str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _take_in(lines: IO[str], watch: Watch) -> None:
    """Pass on what a worker says until it is silent."""
    actions: dict[str, Callable[[Any], None]] = {
        "step": watch.step,
        "cell": lambda data: watch.cell(TypeAdapter(Cell).validate_python(data)),
        "refused": _refuse,
    }
    for line in lines:
        for kind, value in json.loads(line).items():
            actions[kind](value)


def _refuse(message: str) -> None:
    raise InputError(message)


def _read_inputs(folder: Path, workload: str, B: int, S: int) -> Sequence[Batch]:
    return load_batches(_inputs_file(folder, workload, B, S))


def _inputs_file(folder: Path, workload: str, B: int, S: int) -> Path:
    return folder / f"{workload}-{B}-{S}.safetensors"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
