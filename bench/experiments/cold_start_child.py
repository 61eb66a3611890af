"""The fresh process of a cold start: load a model, answer twice, write down how long it took."""

from __future__ import annotations

import time

STARTED_S = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
from dataclasses import asdict  # noqa: E402
from itertools import pairwise  # noqa: E402
from pathlib import Path  # noqa: E402

from safetensors.torch import load_file  # noqa: E402

from bench.experiments.cold_start import ColdStart, ColdStartTask  # noqa: E402
from bench.runners.base import Precision, RunnerOptions  # noqa: E402
from bench.runners.registry import runner_class_from_runtime  # noqa: E402
from bench.telemetry.cpu import peak_resident_bytes, resident_bytes  # noqa: E402
from pruning.atomic import write_json  # noqa: E402
from pruning.batching import Batch  # noqa: E402


def answer_cold(task: ColdStartTask, batch: Batch, imports_s: float) -> ColdStart:
    """Load the model and answer the same batch twice: the second time shows what the first one paid for."""
    runner_class = runner_class_from_runtime(task.runtime)
    before = resident_bytes()
    times = [time.perf_counter()]
    options = RunnerOptions(dtype=None if task.dtype is None else Precision(task.dtype))
    with runner_class.load(Path(task.prepared), task.threads, options) as runner:
        times.append(time.perf_counter())
        for _ in range(2):
            runner.run(batch)
            times.append(time.perf_counter())
    load_s, first_s, second_s = (end - start for start, end in pairwise(times))
    return ColdStart(imports_s, load_s, first_s, second_s, before, peak_resident_bytes())


def main(text: str) -> None:
    """Do the `ColdStartTask` that ``text`` holds as JSON."""
    task = ColdStartTask(**json.loads(text))
    batch = load_file(task.inputs)
    write_json(Path(task.answer), asdict(answer_cold(task, batch, time.perf_counter() - STARTED_S)))


if __name__ == "__main__":
    main(sys.argv[1])
