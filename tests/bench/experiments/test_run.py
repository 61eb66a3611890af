"""All experiments on tiny models: what comes out, not how fast it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.contestants import name_models
from bench.experiments import stages
from bench.experiments.cold_start import ColdStart, FileCache
from bench.experiments.load import QueueRules, Rate
from bench.experiments.plan import Experiment, ExperimentPlan, experiment_named, rate_from_text
from bench.experiments.results import Experiments
from bench.experiments.run import ExperimentWatch, run_experiments
from bench.result import BenchSettings
from pruning.errors import InputError

SETTINGS = BenchSettings(seqs=(8,), blocks=2, calls=2, warmup_seconds=0.0)
PLAN = ExperimentPlan(
    tuple(Experiment), largest_batch=4, blocks=2, rates=(Rate(0.5, relative=True), Rate(200.0, relative=False)),
    load_seconds=0.1, rules=QueueRules(max_batch=2), repeats=1, profile_calls=2,
)  # fmt: skip


@pytest.fixture
def quick_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    start = ColdStart(1.0, 0.2, 0.1, 0.05, 10, 30)
    monkeypatch.setattr(stages, "start_process", lambda runtime, threads, batch, path, cache, dtype: start)


def test_every_experiment_holds_every_model(dense: Path, shallow: Path, quick_starts: None) -> None:
    told: list[tuple[str, int, int]] = []
    kept: list[Experiments] = []
    found = run_experiments(
        name_models([dense, shallow]),
        SETTINGS,
        PLAN,
        watch=ExperimentWatch(lambda name, done, total, what: told.append((name, done, total)), kept.append),
    )
    keys = ["baseline", "candidate-1"]
    assert [model.key for model in found.profile[0].models] == keys
    assert [curve.key for curve in found.throughput[0].curves] == keys
    assert [point.batch for point in found.throughput[0].curves[1].points] in ([1, 2, 4], [1, 2])
    load = found.load[0]
    assert [(point.key, point.share) for point in load.points] == [
        ("baseline", 0.5), ("candidate-1", 0.5), ("baseline", None), ("candidate-1", None),
    ]  # fmt: skip
    arrivals = [[outcome.arrival_s for outcome in point.outcomes] for point in load.points]
    assert arrivals[0] == arrivals[1] != arrivals[2]
    assert load.saturation_per_second > 0
    assert {(row.key, row.cache) for row in found.cold_start[0].rows} == {(x, y) for x in keys for y in FileCache}
    assert all(row.file_bytes > 0 for row in found.cold_start[0].rows)
    assert Experiments.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert all(0 < done <= total for _, done, total in told)
    assert {name for name, _, _ in told} == set(Experiment) - {Experiment.LATENCY}
    assert kept[-1] == found
    assert kept[0].throughput == ()
    assert {result.clock for result in found.throughput} == {"wall"}


STEPS = {
    Experiment.PROFILE: lambda found: found.profile[0].models,
    Experiment.THROUGHPUT: lambda found: [curve.points for curve in found.throughput[0].curves],
    Experiment.LOAD: lambda found: found.load[0].points,
    Experiment.COLD_START: lambda found: [row.starts for row in found.cold_start[0].rows],
}
"""What grows step by step in each experiment."""


@pytest.mark.parametrize("name", STEPS)
def test_a_stopped_experiment_keeps_its_steps_and_goes_on(name: Experiment, dense: Path, quick_starts: None) -> None:
    models, plan = name_models([dense, dense]), replace(PLAN, names=(name,), repeats=2)
    kept: list[Experiments] = []

    def press(told: str, done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_experiments(models, SETTINGS, plan, watch=ExperimentWatch(press, kept.append))
    part = Experiments.from_dict(json.loads(json.dumps(kept[-1].to_dict())))
    assert len(kept) == 1
    again: list[int] = []
    whole = run_experiments(
        models, SETTINGS, plan, found=part, watch=ExperimentWatch(lambda told, done, total, what: again.append(done))
    )
    assert again[0] == 2
    before, after = STEPS[name](part), STEPS[name](whole)
    assert len(after) >= len(before)
    for first, grown in zip(before, after, strict=False):
        assert grown == first or grown[: len(first)] == first
    assert run_experiments(models, SETTINGS, plan, found=whole) == whole


def test_another_load_is_not_continued(dense: Path) -> None:
    models, plan = name_models([dense, dense]), replace(PLAN, names=(Experiment.LOAD,))
    found = run_experiments(models, SETTINGS, plan)
    for change in ({"rates": (Rate(0.7, True),)}, {"load_seconds": 0.2}, {"rules": QueueRules(max_batch=3)}):
        with pytest.raises(InputError, match="at other rates, for another time or with other rules of the queue"):
            run_experiments(models, SETTINGS, replace(plan, **change), found=found)


def test_throughput_can_be_read_from_the_clock_of_the_thread(dense: Path) -> None:
    plan = replace(PLAN, names=(Experiment.THROUGHPUT,), largest_batch=1)
    found = run_experiments(name_models([dense, dense]), replace(SETTINGS, headline_clock="thread"), plan)
    assert [result.clock for result in found.throughput] == ["thread"]


def test_a_runtime_that_cannot_be_profiled_is_refused_first(dense: Path) -> None:
    settings = BenchSettings(runtimes=("abacus",))
    with pytest.raises(InputError, match="abacus cannot be profiled"):
        run_experiments(name_models([dense, dense]), settings, PLAN)


def test_a_profile_is_of_the_precision_asked_for(dense: Path) -> None:
    settings, plan = replace(SETTINGS, dtype="bf16"), replace(PLAN, names=(Experiment.PROFILE,))
    settings = replace(settings, runtimes=("torch-cpu",))
    (found,) = run_experiments(name_models([dense, dense]), settings, plan).profile
    operators = {time.work.operator for model in found.models for time in model.operators.times}
    assert "addmm" in operators


def test_damaged_experiments_are_refused() -> None:
    with pytest.raises(InputError, match=r"the experiments are damaged: load\.0\.seq"):
        Experiments.from_dict({"load": [{"runtime": "x"}]})


@pytest.mark.parametrize(
    ("text", "rate"), [("50%", Rate(0.5, True)), (" 20 ", Rate(20.0, False)), ("1.5", Rate(1.5, False))]
)  # fmt: skip
def test_rates_are_read_from_text(text: str, rate: Rate) -> None:
    assert rate_from_text(text) == rate


@pytest.mark.parametrize(("text", "problem"), [("fast", "got 'fast'"), ("0", "must be positive"), ("-5%", "positive")])
def test_rates_that_are_none_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        rate_from_text(text)


def test_an_unknown_experiment_is_refused() -> None:
    assert experiment_named("cold-start") is Experiment.COLD_START
    with pytest.raises(InputError, match="experiment 'warp' is unknown; available: latency, throughput, load, cold-st"):
        experiment_named("warp")


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [({"repeats": 0}, "got 64, 0, 20 and 5"), ({"blocks": 1}, "blocks >= 2"), ({"load_seconds": 0.0}, "more than 0 s")],
)
def test_impossible_plans_are_refused(numbers: dict[str, int], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        ExperimentPlan((Experiment.LOAD,), **numbers)  # type: ignore[arg-type]


def test_what_was_found_before_is_not_measured_again(dense: Path, quick_starts: None) -> None:
    models = name_models([dense, dense])
    first = run_experiments(models, SETTINGS, PLAN)
    assert run_experiments(models, SETTINGS, PLAN, found=first) == first


def test_models_bound_to_runtimes_are_refused(dense: Path) -> None:
    models = name_models([dense, dense], runtimes=["ort-cpu", None])
    with pytest.raises(InputError, match="dense @ ort-cpu is bound to its own"):
        run_experiments(models, SETTINGS, PLAN)
