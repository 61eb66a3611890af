"""The whole job: a fine-tuned BERT in, a run folder with a smaller one and its proof out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.environment import environment_from_machine
from bench.report.run_report import headline_from_report, html_from_report, markdown_from_report
from bench.report.schema import ModelFacts, ParityRow, Ratio, RunFacts, SpeedRound, SpeedTarget, build_report
from bench.result import BenchResult
from bench.runners.registry import runner_class_from_runtime
from pruning.atomic import write_json, write_text
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model, reads_first_token
from pruning.tasks.registry import task_named
from pruning.tasks.source import load_splits
from tools.artifacts import artifact_facts, check_buildable, not_shipped
from tools.calibrating import calibration_from_rows
from tools.cards import write_run_card
from tools.closed_loop import LARGEST_SHORTFALL
from tools.console import Steps
from tools.held_out import POINTS, split_for_choice
from tools.manifest import MANIFEST, write_manifest
from tools.pricing import target_from_request
from tools.run_folder import RunFolder
from tools.run_table import check_measurable
from tools.settings import RunSettings
from tools.stages import STAGES, run_stage
from tools.workspace import Facts, Workspace, bench_settings

REPORT = "report.json"
ON_BY_DEFAULT = ("reconstruct", "first-token")
MODEL_KEYS = ("params", "encoder_linear_params", "bytes", "arch", "metric")


def run(
    settings: RunSettings, out: Path, *, resume: bool = False, notes: Sequence[str] = (), command: str | None = None
) -> dict[str, Any]:
    """Prune, export, evaluate, measure and report; return the contents of ``report.json``.

    Everything that can be refused is refused before anything is written. A run that was stopped continues with its
    first unfinished stage.

    Args:
        settings: what to do.
        out: the run folder, which must be free, or hold this very run if ``resume``.
        resume: continue a stopped run.
        notes: sentences for the report.
        command: how a reader repeats the run, if not with ``slimbert run``.

    Raises:
        InputError: if the request cannot be met.
    """
    folder = RunFolder(Path(out))
    folder.check(settings, resume=resume)
    with Steps() as steps:
        work = prepare(settings, folder, steps)
        folder.claim(settings)
        for line in (f"writing to {folder.path} ...", *work.calibration.warnings):
            steps.note(line)
        facts = {name: run_stage(name, work) for name in STAGES}
        if folder.facts("report") is None:
            report = _report(
                work, facts, [*notes, *_notes(work, facts)], command or command_from_settings(settings, out)
            )
            for refused in report["not_shipped"]:
                (folder.path / refused["artifact"]).unlink(missing_ok=True)
            _write_reports(work, report, BenchResult.from_dict(_without_seconds(facts["bench"])))
            folder.finish("report", report)
    finished = folder.facts("report")
    assert finished is not None
    return finished


def prepare(settings: RunSettings, folder: RunFolder, steps: Steps) -> Workspace:
    """Load the model and the data, and check everything that can be checked before the work starts.

    Raises:
        InputError: if something does not fit.
    """
    settings.prune.target.chosen()
    settings.prune.price.check(settings.prune.target)
    task = task_named(settings.task)
    for runtime in settings.bench.runtime:
        runner_class_from_runtime(runtime)
    for library in settings.export.libraries:
        check_buildable(library)
    if settings.export.target and "tensorrt-rtx" not in settings.export.libraries:
        raise InputError("--target is for --export tensorrt-rtx. Leave it out.")
    bench_settings(settings.bench, settings.seed)
    dense = load_checkpoint(settings.model)
    task.check_head(head_from_model(dense.model))
    _check_lengths(settings, dense.model.config.max_position_embeddings)
    splits = load_splits(settings.data.source, seed=settings.seed)
    if task.has_truth(splits.evaluation):
        names = [dense.model.config.id2label[i] for i in sorted(dense.model.config.id2label)]
        task.check_truth(splits.evaluation, names)
    choice = None
    if settings.prune.target.max_drop is not None:
        choice, splits = split_for_choice(splits, task, settings.seed)
    params = sum(parameter.numel() for parameter in dense.model.parameters())
    first_token = settings.export.first_token and reads_first_token(dense.model)
    measured, searched = settings.prune.price.measured, settings.prune.target.max_drop is not None
    target = (
        None
        if measured or searched
        else target_from_request(dense.model, settings.prune, params, settings.bench.seq[0], first_token=first_token)
    )
    calibration = calibration_from_rows(
        dense,
        splits.train,
        examples=settings.prune.calibration,
        max_length=settings.max_length,
        seed=settings.seed,
    )
    work = Workspace(settings, folder, dense, splits, calibration, target, first_token, steps, choice)
    if measured:
        check_measurable(work)
    return work


def headline(report: dict[str, Any]) -> str:
    """The report in one sentence."""
    return headline_from_report(report)


def missed_text(report: dict[str, Any]) -> str | None:
    """That the rounds ended before the requested speedup was measured; None if it was, or none was to be measured."""
    kept = next((x for x in report["speed_rounds"] if x["kept"]), None)
    requested = report["requested_speedup"]
    if kept is None or kept["measured"]["value"] >= (1 - LARGEST_SHORTFALL) * requested:
        return None
    found = f"{kept['measured']['value']:.3f} was measured on {SpeedTarget(**report['speed_target'])}"
    return f"The requested speedup of {requested:g} was not reached: {found}."


def options_from_settings(settings: RunSettings) -> dict[str, Any]:
    """The options of ``slimbert run`` that ask for these settings, by name; what is not set is left out."""
    grid = settings.bench.model_dump()
    prune = settings.prune
    options = {
        "task": settings.task,
        **settings.data.model_dump(),
        **prune.target.model_dump(),
        "price": prune.price.by,
        "latency-table": ",".join(prune.price.tables),
        "method": None if prune.method is None else prune.method.value,
        "reconstruct": prune.reconstruct,
        "calibration": prune.calibration,
        "ffn-multiple": prune.ffn_multiple,
        **_joined(grid),
        **_joined(settings.export.model_dump()),
        "max-length": settings.max_length,
        "seed": settings.seed,
        "with-code": settings.with_code,
    }
    return {name.replace("_", "-"): value for name, value in options.items() if value not in (None, "")}


def _joined(values: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as the command line writes them."""
    return {name: ",".join(map(str, x)) if isinstance(x, tuple) else x for name, x in values.items()}


def command_from_settings(settings: RunSettings, out: Path) -> str:
    """The command line that asks for these settings."""
    words = ["slimbert", "run", settings.model, *words_from_options(options_from_settings(settings))]
    return shlex.join(map(str, [*words, "--out", out]))


def words_from_options(options: Mapping[str, Any]) -> list[str]:
    """Options by name, as a command line has them."""
    words: list[object] = []
    for name, value in options.items():
        if isinstance(value, bool):
            words += [f"--{name}"] if value else [f"--no-{name}"] if name in ON_BY_DEFAULT else []
        else:
            words += [f"--{name}", value]
    return list(map(str, words))


def _check_lengths(settings: RunSettings, positions: int) -> None:
    longest = max(*settings.bench.seq, settings.max_length)
    if longest > positions:
        raise InputError(
            f"the model has {positions} positions; --seq and --max-length ask for {longest}. Ask for less."
        )


def _report(work: Workspace, facts: dict[str, Facts], notes: Sequence[str], command: str) -> dict[str, Any]:
    run_facts = RunFacts(
        task=work.settings.task,
        method=facts["prune"]["method"],
        requested_speedup=work.settings.prune.target.speedup,
        command=command,
        seconds={name: stage["seconds"] for name, stage in facts.items()},
        notes=tuple(notes),
        artifacts=artifact_facts(work, facts),
        not_shipped=not_shipped(work, facts),
        drop_search=facts["prune"].get("drop_search"),
        speed_rounds=tuple(_speed_round(x) for x in facts["prune"].get("speed_rounds", ())),
        speed_target=facts["prune"].get("speed_target"),
    )
    models = [ModelFacts(**{key: facts[name][key] for key in MODEL_KEYS}) for name in ("baseline", "evaluate")]
    parity = [ParityRow(**row) for row in facts["parity"]["parity"]]
    bench = BenchResult.from_dict(_without_seconds(facts["bench"]))
    return build_report(run_facts, models[0], models[1], parity, bench)


def _speed_round(facts: Facts) -> SpeedRound:
    measured = Ratio(value=facts["measured"], ci95=(facts["low"], facts["high"]))
    return SpeedRound(asked=facts["asked"], predicted=facts["predicted"], measured=measured, kept=facts["kept"])


def _write_reports(work: Workspace, report: dict[str, Any], bench: BenchResult) -> None:
    out = work.folder.path
    write_json(out / REPORT, report)
    write_json(out / "bench.json", bench.to_dict())
    configuration = {"model": work.settings.model, **options_from_settings(work.settings)}
    write_text(out / "config.yaml", yaml.safe_dump(configuration, sort_keys=False))
    write_text(out / "report.md", markdown_from_report(report))
    write_text(out / "report.html", html_from_report(report, bench))
    data = work.settings.data
    write_run_card(work.folder.deploy, report, work.dense, work.settings.model, data.eval_data or data.data)
    settings = work.settings.model_dump(mode="json")
    hardware = environment_from_machine().to_dict()
    facts = {"command": report["command"], "seed": work.settings.seed, "settings": settings, "environment": hardware}
    (out / MANIFEST).unlink(missing_ok=True)
    write_manifest(out, facts)


def _without_seconds(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if name != "seconds"}


def _notes(work: Workspace, facts: dict[str, Facts]) -> list[str]:
    pruned, evaluated = facts["prune"], facts["evaluate"]
    fit, select, report = pruned["calibration"]
    notes = [work.splits.note[:1].upper() + work.splits.note[1:] + "."]
    if pruned["budget"] is not None:
        notes.append(f"The budget was {pruned['budget']}; the speedup is measured, not derived from it.")
    sequence = work.settings.bench.seq[0]
    full, left = (
        arch_from_model(x.model).encoder_flops(sequence, first_token=work.first_token)
        for x in (work.dense, work.compact)
    )
    last = ", the last layer counted for the first token alone in both" if work.first_token else ""
    notes.append(f"The encoder has {full / max(left, 1):.2f}x fewer FLOPs at sequence {sequence}{last}.")
    notes.append(
        f"Pruned with {fit} unlabelled texts; {select} others chose the regularisation. On {report} more, which chose "
        f"nothing, the divergence from the dense model is {pruned['divergence']:.4f}"
        + (
            f" ({pruned['divergence_unreconstructed']:.4f} before the output projections were refitted)."
            if pruned["divergence_unreconstructed"] is not None
            else ", without refitting."
        )
    )
    notes.extend((*pruned["reasons"], *pruned["warnings"]))
    notes.extend((*pruned.get("speed_notes", ()), *_drop_notes(facts)))
    if work.settings.prune.reconstruct and not pruned["kept_reconstruction"]:
        notes.append("The refitting was taken back, because it did harm on held-out texts.")
    if evaluated["metric"] is None:
        notes.append("The evaluation data have no labels, so accuracy was not measured.")
    for name, value in evaluated["others"].items():
        notes.append(f"{name.replace('_', ' ').capitalize()} of the pruned model: {value:.4f}.")
    notes += [f"Parity of {name} was not run: {reason}" for name, reason in facts["parity"]["not_run"].items()]
    return notes


def _drop_notes(facts: dict[str, Facts]) -> list[str]:
    """That the rows which report tell another story than those which chose."""
    search = facts["prune"].get("drop_search")
    if search is None:
        return []
    loss = POINTS * (facts["baseline"]["metric"]["value"] - facts["evaluate"]["metric"]["value"])
    if loss <= search["allowed_points"]:
        return []
    return [
        f"On the rows that report, the loss is {loss:.2f} points, more than the {search['allowed_points']:g} that were "
        "allowed; the rows that chose had fewer. More evaluation rows make both surer."
    ]
