"""Pruning to a speedup that is measured: latency table, then rounds of budget, pruning, export and measurement."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from bench.compare import compare
from bench.result import BenchSettings
from bench.runners.base import Precision
from exporter.fastest import Compare, Speedup, faster_onnx_from_model
from exporter.options import Dialect
from exporter.to_onnx import onnx_from_model
from pruning.arch import ArchSpec
from pruning.atomic import atomic_folder
from pruning.budget import Budget, largest_speedup
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable
from tools.closed_loop import Round, best_round, next_request, out_of_reach_text, require_reachable
from tools.deploying import short_compare, speedup_from_result
from tools.int8_graphs import dense_graph, int8_graph
from tools.one_shot import OneShotJob, width_step
from tools.run_table import run_budget, run_table
from tools.settings import RunSettings
from tools.workspace import Facts, Workspace


def run_width_step(settings: RunSettings) -> int:
    """The grid of FFN widths that was asked for, or that suits everything the run measures in."""
    targets = product(settings.bench.runtime, settings.export.engine_dtypes)
    return width_step(settings.prune.ffn_multiple, targets)


def prune_to_target(work: Workspace, target: Budget | ArchSpec, folder: Path) -> Facts:
    """Prune, and write the checkpoint to ``folder``."""
    job = OneShotJob(
        work.dense, work.calibration, work.settings.prune, run_width_step(work.settings), work.settings.seed
    )
    result, facts = job.prune(target, work.steps.update)
    save_checkpoint(result.model, work.dense.tokenizer, folder, with_code=work.settings.with_code)
    return facts | {"phases": result.seconds}


def prune_in_rounds(work: Workspace) -> Facts:
    """Prune until the measured speedup is the requested one, and copy the best round to ``compact/``.

    The table and every round stay in the run's state: what is there is not measured again.

    Raises:
        InputError: if the speedup is out of reach.
    """
    requested, table = _requested(work), run_table(work)
    prices = run_budget(work, table, requested).prices
    dense, reachable = prices.total(work.dense_arch), largest_speedup(work.dense_arch, prices)
    floor = f"{prices.fixed / dense:.0%} of the time, embeddings, norms and the head, can not be pruned"
    found: list[Facts] = []
    rounds: list[Round] = []
    while (asked := next_request(requested, rounds, reachable)) is not None:
        try:
            found.append(_round(work, table, asked, len(rounds) + 1))
        except InputError as error:
            if not rounds:
                raise
            raise InputError(f"{out_of_reach_text(requested, rounds, floor)}; for more, {error}") from error
        rounds.append(Round(**found[-1]["round"]))
    require_reachable(requested, rounds, reachable, floor)
    best = best_round(requested, rounds)
    with atomic_folder(work.folder.compact) as partial:
        copytree(_round_folder(work, best + 1), partial, dirs_exist_ok=True)
    speed_rounds = [{**asdict(x), "kept": index == best} for index, x in enumerate(rounds)]
    notes = _notes(requested, rounds[best], len(rounds), table)
    return {**found[best]["facts"], "speed_rounds": speed_rounds, "speed_notes": notes, "speed_target": _target(table)}


def _target(table: LatencyTable) -> Facts:
    """What the speedup is for."""
    return {name: getattr(table.identity, name) for name in ("runtime", "dtype", "batch", "seq")}


def _notes(requested: float, best: Round, rounds: int, table: LatencyTable) -> list[str]:
    """What a reader must know about the table and the rounds."""
    notes = []
    if not best.reaches(requested):
        notes.append(
            f"The requested speedup of {requested:g} was not reached: {best.measured:.3f} after {rounds} rounds."
        )
    if table.verdict != "good":
        notes.append(
            f"The latency table is {table.verdict}: whole models are up to {table.additivity_error:.0%} away from the "
            "sum of their sublayers."
        )
    return notes


def _round(work: Workspace, table: LatencyTable, asked: float, number: int) -> Facts:
    """Prune to what the prices say, export and measure; or what a finished round found."""
    name, folder = f"round-{number}", _round_folder(work, number)
    finished = work.folder.facts(name)
    if finished is not None:
        return finished
    work.steps.note(f"round {number}: asking for {asked:.3f}x on {table.identity.scenario}")
    budget = run_budget(work, table, asked)
    facts = prune_to_target(work, budget, folder)
    arch = arch_from_model(load_checkpoint(folder).model)
    predicted = budget.spent(work.dense_arch) / budget.spent(arch)
    speed = measured_speedup(work, folder)
    work.steps.note(f"round {number}: predicted {predicted:.3f}x, measured {speed.value:.3f}x")
    tried = Round(asked, predicted, speed.value, speed.low, speed.high)
    result = {"round": asdict(tried), "facts": facts}
    work.folder.finish(name, result)
    return result


def measured_speedup(work: Workspace, folder: Path) -> Speedup:
    """The checkpoint in ``folder`` against the dense model, as the benchmark of the run will compare them."""
    settings = _first_cell(work.bench_settings)
    if settings.runtimes != ("ort-cpu",):
        result = compare(work.dense.path, [folder], settings, inputs=work.bench_inputs)
        return speedup_from_result(result)
    model, dtype = load_checkpoint(folder).model, work.settings.headline_dtype
    timed = short_compare(settings, work.bench_inputs)
    with TemporaryDirectory(dir=work.folder.state, prefix="export-") as name:
        scratch = Path(name)
        pruned, dialect = _fp32_graph(work, model, scratch / "pruned.onnx", timed)
        if dtype == Precision.INT8:
            pruned = int8_graph(work, model, "the pruned model", pruned, scratch / "pruned-int8.onnx")
        return timed(pruned, dense_graph(work, dialect, dtype, scratch))


def _fp32_graph(work: Workspace, model: PreTrainedModel, path: Path, timed: Compare) -> tuple[Path, Dialect]:
    """Written as the export of the run writes it, and its operators."""
    asked = Dialect(work.settings.export.dialect)
    options = work.graph_options(asked)
    if asked == Dialect.STANDARD:
        return onnx_from_model(model, path, options=options).path, asked
    found = faster_onnx_from_model(model, path, timed, options=options).export
    return found.path, Dialect(found.form.dialect)


def _first_cell(settings: BenchSettings) -> BenchSettings:
    return replace(settings, batches=settings.batches[:1], seqs=settings.seqs[:1])


def _requested(work: Workspace) -> float:
    speedup = work.settings.prune.target.speedup
    assert speedup is not None
    return speedup


def _round_folder(work: Workspace, number: int) -> Path:
    return work.folder.state / f"round-{number}"
