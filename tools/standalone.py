"""The single steps of a run as commands of their own: each takes folders and leaves folders."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from bench.runners.artifact import Artifact, artifact_from_path
from exporter.deploy import ONNX_FILE
from exporter.describe import describe_onnx
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.arch import ArchSpec
from pruning.atomic import write_json
from pruning.batching import Predict, predict_from_model
from pruning.budget import Budget
from pruning.checkpoint import Checkpoint, load_checkpoint, load_tokenizer, save_checkpoint
from pruning.errors import InputError
from pruning.finetune import FinetuneOptions
from pruning.finetune import finetune as train
from pruning.introspect import arch_from_model, head_from_model, reads_first_token
from pruning.methods.oneshot import PruneResult
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits, load_evaluation, load_splits
from pruning.tasks.task import Task
from tools.calibrating import calibration_from_rows
from tools.console import Steps
from tools.drop_pruning import Budgets, prune_job_within_drop
from tools.exporting import require_free
from tools.held_out import HeldOut, split_for_choice
from tools.model_facts import facts_from_model
from tools.one_shot import OneShotJob
from tools.pricing import budgets_from_request, table_width_step, target_from_request
from tools.settings import DataSettings, PruneSettings, TextSettings
from tools.stages import EVALUATION_THREADS

PRUNE_FACTS = "prune.json"


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


@dataclass(frozen=True, eq=False)
class _Search:
    """For the fastest model within ``allowed`` points: the rows that choose, those that report, and the prices."""

    allowed: float
    held_out: HeldOut
    report: Splits
    budgets: Budgets

    def prune(self, job: OneShotJob, steps: Steps) -> tuple[PruneResult, dict[str, Any]]:
        result, found = prune_job_within_drop(job, self.budgets, self.held_out, self.allowed, steps)
        reporting = replace(self.held_out, rows=self.report.evaluation)
        metrics = {"dense": reporting.metric(job.dense.model), "candidate": reporting.metric(result.model)}
        return result, {**found, "metrics": {x: asdict(y) for x, y in metrics.items()}, "note": self.report.note}


def _search(
    dense: Checkpoint, splits: Splits, request: PruneSettings, text: TextSettings, task_name: str | None
) -> _Search:
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
    return _Search(request.target.max_drop, held_out, report, budgets)


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


def finetune(request: FinetuneOptions, data: DataSettings, *, resume: bool) -> dict[str, Any]:
    """Fine-tune with a progress display.

    Raises:
        InputError: as `pruning.finetune.finetune`.
    """
    splits = load_splits(data.source, seed=request.training.seed)
    with Steps() as steps:
        steps.note(f"writing to {request.out} ...")
        result = train(
            request,
            splits,
            on_step=lambda step, total, loss: steps.update("finetune", step, total, f"loss {loss:.3f}"),
            resume=resume,
        )
    return {**asdict(result), "checkpoint": str(result.checkpoint)}


def evaluate(
    model: str, task_name: str, data: DataSettings, *, reference: str | None, max_length: int | None
) -> dict[str, Any]:
    """Score a checkpoint, in PyTorch, or an ONNX file, in ONNX Runtime.

    Args:
        model: a folder, a hub name or an ONNX file.
        task_name: what it is scored on.
        data: labelled rows.
        reference: a checkpoint to compare the answers with.
        max_length: longest text in tokens; None is the task's own, or what the model can read.

    Raises:
        InputError: if model, task and data do not fit each other, or the model cannot read texts of ``max_length``.
    """
    task = task_named(task_name)
    predict, tokenizer, config = _predictor(model, task)
    rows = load_evaluation(data.source)
    settings = task.settings(config, max_length)
    other = None if reference is None else predict_from_model(load_checkpoint(reference).model)
    result = task.evaluate(predict, tokenizer, rows, settings, other)
    return {"model": model, "task": task_name, "metric": asdict(result.metric), "others": result.others}


def _predictor(model: str, task: Task) -> tuple[Predict, PreTrainedTokenizerBase, PretrainedConfig]:
    """A model in its runtime, with the tokenizer and configuration it goes by."""
    path = Path(model)
    if not path.exists() or artifact_from_path(path) is Artifact.CHECKPOINT:
        loaded = load_checkpoint(model)
        task.check_head(head_from_model(loaded.model))
        return predict_from_model(loaded.model), loaded.tokenizer, loaded.model.config
    if artifact_from_path(path) is Artifact.ENGINE:
        raise InputError(f"{path} is {Artifact.ENGINE.value}; score the ONNX file that it was built from.")
    file = path if path.is_file() else path / ONNX_FILE
    session = session_from_onnx(file, threads=EVALUATION_THREADS)
    head = describe_onnx(file).head
    if head is not None:
        task.check_head(head)
    folder = _folder_with_config(file)
    config = _config(folder)
    return predict_from_session(session), load_tokenizer(folder, config.vocab_size), config


def _config(folder: Path) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be used ({error}). Export the model again.") from error


def _folder_with_config(file: Path) -> Path:
    for folder in (file.parent, file.parent.parent):
        if (folder / "config.json").is_file():
            return folder
    raise InputError(f"{file} has no config.json beside it or one folder up; the labels and tokenizer are unknown.")
