"""``slimbert prune``, one-shot: a dense model and unlabelled text to a compact checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning.arch import ArchSpec
from pruning.atomic import write_json
from pruning.budget import Budget
from pruning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model, reads_first_token
from pruning.methods.oneshot import PruneResult
from pruning.tasks.source import Splits, load_splits
from tools.calibrating import calibration_from_rows
from tools.console import Steps
from tools.model_facts import PRUNE_FACTS, facts_from_model
from tools.new_folder import require_free
from tools.one_shot import OneShotJob
from tools.pricing import table_width_step, target_from_request
from tools.settings import DataSettings, PruneSettings, TextSettings

if TYPE_CHECKING:
    from tools.one_shot_drop import DropSearch


def prune(
    model: str,
    data: DataSettings,
    request: PruneSettings,
    text: TextSettings,
    out: Path,
    *,
    task: str | None = None,
) -> dict[str, Any]:
    """Prune ``model`` and write the compact checkpoint to ``out``, with ``prune.json`` beside the weights.

    Args:
        model: folder or hub name of the dense model.
        data: unlabelled text; labelled where a largest loss of accuracy is the target.
        request: target and method.
        text: lengths and seed.
        out: the folder of the compact checkpoint.
        task: what the labels mean, where they are needed.

    Raises:
        InputError: if the request cannot be met, or ``out`` holds something.
    """
    require_free(out)
    request.target.chosen()
    dense, searched = load_checkpoint(model), request.target.max_drop is not None
    target = None if searched else _target(dense, request, text.seq)
    longest = text.longest(dense.model.config, task)
    splits = load_splits(data.source, seed=text.seed)
    search = _search(dense, splits, request, text, task) if searched else None
    calibration = calibration_from_rows(
        dense, splits.train, examples=request.calibration, max_length=longest, seed=text.seed
    )
    job = OneShotJob(dense, calibration, request, table_width_step(request), text.seed)
    with Steps() as steps:
        for line in (f"writing to {out} ...", *calibration.warnings):
            steps.note(line)
        if search is not None:
            result, found = search.prune(job, steps)
        else:
            assert target is not None
            result, found = job.prune(target, steps.update)
    save_checkpoint(result.model, dense.tokenizer, out, with_code=text.with_code)
    facts = _prune_facts(dense, result, text.seq) | found
    facts |= {
        "seconds": result.seconds,
        "settings": {"prune": request.model_dump(mode="json"), **text.model_dump(mode="json")},
    }
    write_json(out / PRUNE_FACTS, facts)
    return facts


def _target(dense: Checkpoint, request: PruneSettings, sequence: int) -> Budget | ArchSpec:
    params, first_token = facts_from_model(dense.model)["params"], reads_first_token(dense.model)
    return target_from_request(dense.model, request, params, sequence, first_token=first_token)


def _search(
    dense: Checkpoint, splits: Splits, request: PruneSettings, text: TextSettings, task: str | None
) -> DropSearch:
    from tools.one_shot_drop import search_from_request  # noqa: PLC0415  # heavy, and only --max-drop needs it

    return search_from_request(dense, splits, request, text, task)


def _prune_facts(dense: Checkpoint, result: PruneResult, sequence: int) -> dict[str, Any]:
    """Sizes before and after."""
    before, after = facts_from_model(dense.model), facts_from_model(result.model)
    first_token = reads_first_token(dense.model)
    flops, left = (
        x.encoder_flops(sequence, first_token=first_token) for x in (arch_from_model(dense.model), result.arch)
    )
    ratio = flops / max(left, 1)
    return {
        "summary": f"{result.arch}: {after['params']:,} of {before['params']:,} parameters, {ratio:.2f}x fewer encoder "
        f"FLOPs, divergence {result.divergence:.4f}",
        "baseline": before,
        "candidate": after,
        "flops_ratio": ratio,
    }
