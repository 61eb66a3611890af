"""One trial of a grid: a whole run in a folder of its own, and what came of it. Trials know nothing of each other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.report.schema import Metric
from bench.sweep import Bar, TrialResult, interval_bar
from pruning.atomic import write_json
from pruning.errors import InputError
from pruning.methods.names import Method
from tools import pipeline
from tools.settings import RunSettings, TargetSettings


@dataclass(frozen=True)
class Trial:
    """A method, the speedup that is asked of it, and the seed."""

    method: Method
    speedup: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.method}-{self.speedup:g}x-seed{self.seed}"

    def settings(self, base: RunSettings) -> RunSettings:
        """The run of this trial."""
        target = TargetSettings(speedup=self.speedup)
        prune = base.prune.model_copy(update={"method": self.method, "target": target})
        return base.model_copy(update={"prune": prune, "seed": self.seed})


@dataclass(frozen=True)
class TrialJob:
    """A trial with all it needs, as plain data that any process can be handed; ``threads`` compute it."""

    trial: Trial
    base: RunSettings
    out: Path
    threads: int

    @property
    def folder(self) -> Path:
        """Of its run."""
        return self.out / "trials" / self.trial.name

    @property
    def record(self) -> Path:
        """What came of it; it is there once the trial is finished."""
        return self.out / "results" / f"{self.trial.name}.json"


def trials_from_grid(methods: Sequence[Method], speedups: Sequence[float], seeds: int) -> tuple[Trial, ...]:
    """Every method at every speedup with every seed from 0, in this order of nesting, each once."""
    grid = [Trial(method, speedup, seed) for method in methods for speedup in speedups for seed in range(seeds)]
    return tuple(dict.fromkeys(grid))


def run_trial(job: TrialJob) -> dict[str, Any]:
    """Run the trial, or continue it, or read what came of it; plain data of `TrialResult`, the dense metric and where.

    A request that cannot be met is a result, too.
    """
    if not job.record.is_file():
        with _threads(job.threads):
            write_json(job.record, _outcome(job))
    return read_record(job.record)


def read_record(path: Path) -> dict[str, Any]:
    """What `run_trial` wrote.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}). Remove it to run the trial again.") from error


def _outcome(job: TrialJob) -> dict[str, Any]:
    trial = job.trial
    asked = TrialResult(trial.method.value, trial.speedup, trial.seed)
    try:
        report = pipeline.run(trial.settings(job.base), job.folder, resume=True)
    except InputError as error:
        return {"result": replace(asked, refused=str(error)).to_dict(), "dense": None, "where": None}
    speed = report["measured_speedup"]
    low, high = speed["ci95"]
    bar = Bar(speed["value"], min(low, speed["value"]), max(high, speed["value"]))
    result = replace(asked, speedup=bar, metric=_metric_bar(report["candidate"]["metric"]))
    clock = f"{speed['clock']} clock, {speed['threads']} {'thread' if speed['threads'] == 1 else 'threads'}"
    where = f"{speed['runtime']} {speed['dtype']}, batch {speed['batch']}, sequence {speed['seq']}, {clock}"
    dense = report["baseline"]["metric"]
    return {
        "result": result.to_dict(),
        "dense": {"name": dense["name"], "n": dense["n"], **vars(_metric_bar(dense))},
        "where": f"{where} on {report['environment']['cpu']}",
    }


def _metric_bar(metric: Mapping[str, Any]) -> Bar:
    return interval_bar(metric["value"], Metric(**metric).standard_error)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Inside, PyTorch computes with so many threads: the last bits of a sum depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
