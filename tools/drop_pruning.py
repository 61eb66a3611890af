"""Pruning to the accuracy that may be lost: trials at several speedups, and the fastest that keeps within it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from shutil import copytree

from pruning.arch import ArchSpec
from pruning.atomic import atomic_folder
from pruning.budget import Budget, largest_speedup
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from pruning.methods.oneshot import PruneResult
from tools.console import Steps
from tools.drop_search import DropTrial, search_drop
from tools.held_out import HeldOut
from tools.measured_pruning import prune_to_target, run_width_step
from tools.one_shot import OneShotJob
from tools.pricing import budgets_from_request
from tools.run_table import run_budget, run_table
from tools.workspace import Facts, Workspace

Budgets = Callable[[float], Budget]
"""The budget of a speedup."""


def prune_within_drop(work: Workspace) -> Facts:
    """Prune until the fastest model within the loss is found, and copy it to ``compact/``.

    Every trial stays in the run's state: what is there is not repeated.

    Raises:
        InputError: if even the slowest model that was tried loses more.
    """
    allowed, rows = work.settings.prune.target.max_drop, work.choice
    assert allowed is not None
    assert rows is not None
    budgets, found = _budgets_of_run(work), list[Facts]()
    held_out = HeldOut(work.task, work.dense, rows, work.settings.max_length)

    def attempt(speedup: float, number: int) -> DropTrial:
        found.append(_trial(work, held_out, budgets(speedup), speedup, number))
        return DropTrial(**found[-1]["trial"])

    reachable = _reachable(work.dense_arch, budgets, run_width_step(work.settings))
    trials, best = search_drop(allowed, reachable, attempt)
    with atomic_folder(work.folder.compact) as partial_folder:
        copytree(work.folder.state / _name(best + 1), partial_folder, dirs_exist_ok=True)
    return {**found[best]["facts"], "drop_search": facts_from_search(allowed, held_out, trials, best)}


def prune_job_within_drop(
    job: OneShotJob, budgets: Budgets, held_out: HeldOut, allowed: float, steps: Steps
) -> tuple[PruneResult, Facts]:
    """The same in memory, for a single command.

    Raises:
        InputError: if even the slowest model that was tried loses more.
    """
    kept: list[tuple[PruneResult, Facts]] = []  # the fastest so far: what keeps within the loss only gets faster

    def attempt(speedup: float, number: int) -> DropTrial:
        result, facts = job.prune(budgets(speedup), steps.update)
        trial = held_out.trial(result.model, speedup)
        steps.note(_note(trial, number))
        if trial.loss_points <= allowed:
            kept[:] = [(result, facts)]
        return trial

    reachable = _reachable(arch_from_model(job.dense.model), budgets, job.ffn_multiple)
    trials, best = search_drop(allowed, reachable, attempt)
    ((result, facts),) = kept
    return result, {**facts, "drop_search": facts_from_search(allowed, held_out, trials, best)}


def facts_from_search(allowed: float, held_out: HeldOut, trials: Sequence[DropTrial], best: int) -> Facts:
    """What the report says about the search."""
    rows = [{**asdict(trial), "kept": index == best} for index, trial in enumerate(trials)]
    return {"allowed_points": allowed, "n": len(held_out.rows), "trials": rows}


def _trial(work: Workspace, held_out: HeldOut, budget: Budget, speedup: float, number: int) -> Facts:
    """Prune and score; or what a finished trial found."""
    name = _name(number)
    finished = work.folder.facts(name)
    if finished is not None:
        return finished
    work.steps.note(f"trial {number}: asking for {speedup:.3f}x")
    facts = prune_to_target(work, budget, work.folder.state / name)
    trial = held_out.trial(load_checkpoint(work.folder.state / name).model, speedup)
    work.steps.note(_note(trial, number))
    result: Mapping[str, object] = {"trial": asdict(trial), "facts": facts}
    work.folder.finish(name, dict(result))
    return dict(result)


def _budgets_of_run(work: Workspace) -> Budgets:
    settings = work.settings
    if settings.prune.price.measured:
        return partial(run_budget, work, run_table(work))
    sequence = settings.bench.seq[0]
    return budgets_from_request(work.dense.model, settings.prune, sequence, first_token=work.first_token)


def _reachable(arch: ArchSpec, budgets: Budgets, ffn_multiple: int) -> float:
    return largest_speedup(arch, budgets(1.0).prices, ffn_multiple=ffn_multiple)


def _note(trial: DropTrial, number: int) -> str:
    error = "" if trial.error_points is None else f", standard error {trial.error_points:.2f}"
    return f"trial {number}: {trial.speedup:.3f}x loses {trial.loss_points:.2f} points{error}"


def _name(number: int) -> str:
    return f"drop-{number}"
