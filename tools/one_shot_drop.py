"""``slimbert prune --max-drop``: the fastest model within an allowed loss, chosen on labelled rows held out for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from pruning.checkpoint import Checkpoint
from pruning.errors import InputError
from pruning.introspect import head_from_model, reads_first_token
from pruning.methods.oneshot import PruneResult
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from tools.console import Steps
from tools.drop_pruning import Budgets, prune_job_within_drop
from tools.held_out import HeldOut, split_for_choice
from tools.one_shot import OneShotJob
from tools.pricing import budgets_from_request
from tools.settings import PruneSettings, TextSettings


@dataclass(frozen=True, eq=False)
class DropSearch:
    """For the fastest model within ``allowed`` points: the rows that choose, those that report, and the prices."""

    allowed: float
    held_out: HeldOut
    report: Splits
    budgets: Budgets

    def prune(self, job: OneShotJob, steps: Steps) -> tuple[PruneResult, dict[str, Any]]:
        """The model found, and what its record says about the search."""
        result, found = prune_job_within_drop(job, self.budgets, self.held_out, self.allowed, steps)
        reporting = replace(self.held_out, rows=self.report.evaluation)
        metrics = {"dense": reporting.metric(job.dense.model), "candidate": reporting.metric(result.model)}
        return result, {**found, "metrics": {x: asdict(y) for x, y in metrics.items()}, "note": self.report.note}


def search_from_request(
    dense: Checkpoint, splits: Splits, request: PruneSettings, text: TextSettings, task_name: str | None
) -> DropSearch:
    """What a search of ``dense`` needs.

    Raises:
        InputError: if the task is not named or does not suit the model, or there are no or too few labelled rows.
    """
    if task_name is None:
        raise InputError("--max-drop compares scores: pass --task, and labelled data.")
    assert request.target.max_drop is not None
    task = task_named(task_name)
    task.check_head(head_from_model(dense.model))
    rows, report = split_for_choice(splits, task, text.seed)
    request.price.check(request.target)
    first_token = reads_first_token(dense.model)
    budgets = budgets_from_request(dense.model, request, text.seq, first_token=first_token)
    held_out = HeldOut(task, dense, rows, text.longest(dense.model.config, task_name))
    return DropSearch(request.target.max_drop, held_out, report, budgets)
