"""``slimbert frontier``: a grid of runs, and one page that shows accuracy against measured speedup."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.report.sweep_report import html_from_sweep, markdown_from_sweep
from bench.runners.registry import RUNNERS
from bench.sweep import Bar, Sweep, TrialResult, mean_bar
from pruning.atomic import write_json, write_text
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.methods.names import Method
from pruning.owned_folder import check_owner
from pruning.tasks.registry import task_named
from pruning.tasks.source import load_splits
from tools.console import Steps
from tools.latency_tables import measure_usable
from tools.pipeline import options_from_settings, words_from_options
from tools.run_table import TABLE_FILE, table_settings
from tools.settings import RunSettings
from tools.trial import Trial, TrialJob, read_record, trials_from_grid
from tools.trial_queue import RayCluster, import_ray, run_in_turn, run_on_ray

REQUEST = "request.json"
PER_TRIAL = (
    "speedup",
    "method",
    "seed",
    "export",
    "dtype",
    "target",
    "first-token",
    "quantize-embeddings",
    "with-code",
)
"""Options of a run that are the trials', or the same for all."""


@dataclass(frozen=True)
class Grid:
    """What is tried.

    Raises:
        InputError: unless there is something to try, and every speedup is at least 1.
    """

    methods: tuple[Method, ...]
    speedups: tuple[float, ...]
    seeds: int

    def __post_init__(self) -> None:
        if not (self.methods and self.speedups and self.seeds >= 1 and min(self.speedups) >= 1):
            raise InputError(
                "a frontier needs methods, speedups of at least 1 and at least one seed; got methods "
                f"{', '.join(self.methods) or 'none'}, speedups {', '.join(f'{x:g}' for x in self.speedups) or 'none'} "
                f"and {self.seeds} seeds."
            )

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All of them."""
        return trials_from_grid(self.methods, self.speedups, self.seeds)


def run(
    base: RunSettings, grid: Grid, out: Path, *, resume: bool = False, ray: bool = False, address: str | None = None
) -> Sweep:
    """Run every trial that has not been, and write ``frontier.json``, ``frontier.md`` and ``frontier.html``.

    Args:
        base: the run that all trials share; its target, method and seed are the trials'.
        grid: what is tried. A later call may try more in the same folder.
        out: one folder per trial under ``trials/``.
        resume: continue a stopped frontier.
        ray: run the trials on Ray.
        address: of a Ray cluster; None starts Ray on this machine.

    Raises:
        InputError: if something does not fit, or every trial was refused.
    """
    request = {"base": base.model_dump(mode="json", exclude={"seed": True, "prune": {"method", "target"}})}
    check_owner(out, _stored(out), request, kind="frontier", resume=resume)
    _check_scored(base)
    if ray:
        import_ray()
    write_json(out / REQUEST, request)
    threads = base.bench.threads
    with Steps() as steps:
        steps.note(f"writing to {out} ...")
        base = _with_table(base, out, steps)
        jobs = [TrialJob(trial, base, out, threads) for trial in grid.trials]

        def done(record: dict[str, Any]) -> None:
            steps.note(_line(TrialResult.from_dict(record["result"])))

        gpus = int(any(RUNNERS[name].on_gpu for name in base.bench.runtime))
        records = run_on_ray(jobs, RayCluster(address, threads, gpus), done) if ray else run_in_turn(jobs, done)
    sweep = sweep_from_records(records)
    _write(sweep, out, command_from_grid(base, grid, out))
    return sweep


def sweep_from_records(records: Sequence[dict[str, Any]]) -> Sweep:
    """The grid of what `tools.trial.run_trial` left.

    Raises:
        InputError: if no trial could be run; the first reason is named.
    """
    trials = tuple(TrialResult.from_dict(record["result"]) for record in records)
    measured = [record for record in records if record["dense"] is not None]
    if not measured:
        raise InputError(f"every trial was refused; the first: {trials[0].refused}")
    scores = [record["dense"] for record in measured]  # they differ where each seed holds out other rows
    bar = mean_bar([Bar(x["value"], x["low"], x["high"]) for x in scores])
    return Sweep(scores[0]["name"], scores[0]["n"], bar, measured[0]["where"], trials)


def command_from_grid(base: RunSettings, grid: Grid, out: Path) -> str:
    """The command line that asks for this grid."""
    options = {name: x for name, x in options_from_settings(base).items() if name not in PER_TRIAL}
    options["methods"] = ",".join(grid.methods)
    options["speedups"] = ",".join(f"{x:g}" for x in grid.speedups)
    options["seeds"] = grid.seeds
    return shlex.join(["slimbert", "frontier", base.model, *words_from_options(options), "--out", str(out)])


def _stored(out: Path) -> dict[str, Any] | None:
    path = out / REQUEST
    return read_record(path) if path.is_file() else None


def _check_scored(base: RunSettings) -> None:
    task = task_named(base.task)
    if task.needs_truth and not task.has_truth(load_splits(base.data.source, seed=base.seed).evaluation):
        raise InputError("a frontier shows accuracy: it needs labelled evaluation data. Pass --eval-data with labels.")


def _with_table(base: RunSettings, out: Path, steps: Steps) -> RunSettings:
    """Measured prices take one table for all trials: the one given, or one that is measured now."""
    price = base.prune.price
    if not price.measured or price.tables:
        return base
    path = out / TABLE_FILE
    measure_usable(load_checkpoint(base.model).model, table_settings(base), path, partial(steps.update, "table"))
    tables = price.model_copy(update={"tables": (str(path),)})
    return base.model_copy(update={"prune": base.prune.model_copy(update={"price": tables})})


def _line(result: TrialResult) -> str:
    name = f"{result.method} at {result.requested:g}x, seed {result.seed}"
    if result.speedup is None or result.metric is None:
        return f"{name}: refused: {result.refused}"
    return f"{name}: measured {result.speedup.value:.2f}x, {result.metric.value:.4f}"


def _write(sweep: Sweep, out: Path, command: str) -> None:
    write_json(out / "frontier.json", {**sweep.to_dict(), "command": command})
    write_text(out / "frontier.md", markdown_from_sweep(sweep, command))
    write_text(out / "frontier.html", html_from_sweep(sweep, command))
