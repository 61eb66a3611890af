"""All experiments on tiny models: what comes out, not how fast it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.contestants import name_models
from bench.experiments import run
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
    monkeypatch.setattr(run, "start_process", lambda runtime, threads, batch, path, cache: start)


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


def test_what_ended_before_an_interrupt_is_kept(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(site: object, seq: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure_throughput", stop)
    kept: list[Experiments] = []
    with pytest.raises(KeyboardInterrupt):
        run_experiments(name_models([dense, dense]), SETTINGS, PLAN, watch=ExperimentWatch(keep=kept.append))
    assert len(kept) == 1
    assert kept[0].profile
    assert list(kept[0].to_dict()) == ["profile"]


def test_a_runtime_that_cannot_be_profiled_is_refused_first(dense: Path) -> None:
    settings = BenchSettings(runtimes=("torch-cuda",))
    with pytest.raises(InputError, match="torch-cuda cannot be profiled"):
        run_experiments(name_models([dense, dense]), settings, PLAN)


@pytest.mark.parametrize(("runtime", "dtype"), [("torch-cpu", "bf16"), ("torch-cpu", "fp16"), ("openvino", "bf16")])
def test_a_precision_that_a_profile_would_miss_is_refused(runtime: str, dtype: str, dense: Path) -> None:
    settings = BenchSettings(runtimes=(runtime,), dtype=dtype)
    with pytest.raises(InputError, match=f"{runtime} is profiled in fp32, not in {dtype}; leave out --profile"):
        run_experiments(name_models([dense, dense]), settings, PLAN)


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
