"""A grid of runs: every trial once, in any process, and one page."""

import json
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from pruning.errors import InputError
from pruning.methods.names import Method
from tests.tools.conftest import QUICK, write_reviews
from tests.tools.tables import quiet_table
from tools import console, latency_tables, pipeline, trial_queue
from tools.settings import DataSettings, PriceSettings, PruneSettings, RunSettings, TargetSettings
from tools.trial import Trial, TrialJob, run_trial, trials_from_grid
from tools.trial_queue import run_apart

DATA = ("frontier", "my-bert", "--task", "text-classification", "--data", "reviews.csv", "--out", "grid")
GRID = ("--speedups", "1.5,2", "--methods", "oneshot,drop", "--seeds", "2")


def base(**prune):
    settings = PruneSettings(target=TargetSettings(speedup=1.0), **prune)
    return RunSettings(
        model="my-bert", task="text-classification", data=DataSettings(data="reviews.csv"), prune=settings
    )


@pytest.fixture
def runs(monkeypatch):
    """Runs whose report is made up: a drop is faster and worse, and 9x is out of reach; what has been run."""
    seen = []

    def run(settings, out, *, resume):
        asked = settings.prune.target.speedup
        seen.append((settings.prune.method.value, asked, settings.seed, resume))
        if asked > 5:
            raise InputError(f"a speedup of {asked:g} is out of reach.")
        speed = asked + settings.seed / 10 + (settings.prune.method == "drop")
        metric = {"name": "accuracy", "n": 100, "value": 0.95 - speed / 20}
        return {
            "measured_speedup": {
                "value": speed, "ci95": [speed - 0.1, speed + 0.1], "runtime": "ort-cpu", "dtype": "fp32",
                "batch": 1, "seq": 16, "clock": "wall", "threads": 1,
            },
            "baseline": {"metric": metric | {"value": 0.9}},
            "candidate": {"metric": metric},
            "environment": {"cpu": "Abacus"},
        }  # fmt: skip

    monkeypatch.setattr(pipeline, "run", run)
    return seen


def test_the_grid_is_run_once_and_drawn(slimbert, project, runs):
    code, out, error = slimbert(*DATA, *GRID)
    assert code == 0, error
    assert len(runs) == len(set(runs)) == 8
    assert "| oneshot | 2x | 2.05x (1.90 to 2.20) |" in out
    found = json.loads((project / "grid" / "frontier.json").read_text())
    assert len(found["trials"]) == 8
    assert [(x["method"], x["requested"], x["seeds"]) for x in found["points"]] == [
        ("oneshot", 1.5, 2), ("oneshot", 2.0, 2), ("drop", 1.5, 2), ("drop", 2.0, 2),
    ]  # fmt: skip
    assert found["dense"]["value"] == 0.9
    assert found["dense"]["high"] == pytest.approx(0.9 + 1.96 * 0.03)
    assert {"frontier.md", "frontier.html"} <= {path.name for path in (project / "grid").iterdir()}
    assert slimbert(*found["command"].split()[1:], "--resume")[0] == 0
    assert len(runs) == 8


def test_a_grid_grows_without_repeating_anything(slimbert, project, runs):
    assert slimbert(*DATA, "--speedups", "2", "--seeds", "1")[0] == 0
    code, _, error = slimbert(*DATA, "--speedups", "2,9", "--seeds", "2", "--resume")
    assert code == 0, error
    assert [x[:3] for x in runs] == [("oneshot", 2.0, 0), ("oneshot", 2.0, 1), ("oneshot", 9.0, 0), ("oneshot", 9.0, 1)]
    assert (
        "oneshot at 9x, seed 0 was refused: a speedup of 9 is out of reach."
        in (project / "grid" / "frontier.md").read_text()
    )


def test_a_stopped_grid_goes_on_with_the_trial_that_was_stopped(slimbert, project, runs, monkeypatch):
    whole, calls = pipeline.run, []

    def stop(settings, out, **options):
        calls.append(out.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(settings, out, **options)

    monkeypatch.setattr(pipeline, "run", stop)
    assert slimbert(*DATA, "--speedups", "2,3", "--seeds", "1")[0] == 130
    assert slimbert(*DATA, "--speedups", "2,3", "--seeds", "1", "--resume")[0] == 0
    assert calls == ["oneshot-2x-seed0", "oneshot-3x-seed0", "oneshot-3x-seed0"]
    assert all(resume for *_, resume in runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "oneshot,wish"), "--methods does not know wish; known: oneshot, drop"),
        (("--methods", ""), "needs methods, speedups of at least 1 and at least one seed; got methods none"),
        (("--speedups", "0.5"), "speedups of at least 1"),
        (("--speedups", "fast"), "--speedups takes numbers separated by commas"),
        (("--seeds", "0"), "and 0 seeds"),
        (("--address", "1.2.3.4:6379"), "--address is of a Ray cluster. Pass --ray"),
        (("--speedups", "9"), "every trial was refused; the first: a speedup of 9 is out of reach"),
    ],
)
def test_what_cannot_be_tried_is_refused(slimbert, project, runs, arguments, message):
    code, _, error = slimbert(*DATA, *arguments)
    assert (code, message in error) == (2, True), error


def test_it_needs_labels_and_a_folder_of_its_own(slimbert, project, runs):
    (project / "grid").mkdir()
    (project / "grid" / "thesis.txt").touch()
    assert "exists and holds no frontier" in slimbert(*DATA)[2]
    (project / "grid" / "thesis.txt").unlink()
    assert slimbert(*DATA, "--speedups", "2", "--seeds", "1")[0] == 0
    assert "already holds this frontier. Pass --resume" in slimbert(*DATA, "--speedups", "2", "--seeds", "1")[2]
    assert "with other settings (base)" in slimbert(*DATA, "--calibration", "20", "--resume")[2]
    lines = (project / "reviews.csv").read_text().splitlines()
    (project / "plain.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    code, _, error = slimbert(*DATA[:5], "plain.csv", "--out", "other")
    assert (code, "it needs labelled evaluation data" in error) == (2, True), error


def test_a_table_is_measured_once_for_all_trials(slimbert, project, runs, monkeypatch):
    measured, asked = [], []
    monkeypatch.setattr(latency_tables, "measure_table", lambda *_, **__: measured.append(1) or quiet_table(project))
    whole = pipeline.run
    monkeypatch.setattr(pipeline, "run", lambda s, out, **x: asked.append(s.prune.price.tables) or whole(s, out, **x))
    code, _, error = slimbert(*DATA, "--speedups", "2,3", "--seeds", "1", "--price", "measured")
    assert (code, measured) == (0, [1]), error
    assert asked == [("grid/latency_table.json",)] * 2
    assert slimbert(*DATA, "--speedups", "2,3,4", "--seeds", "1", "--price", "measured", "--resume")[0] == 0
    assert measured == [1]


def test_a_trial_is_plain_data_and_a_damaged_record_is_named(project, runs):
    job = TrialJob(Trial(Method.DROP, 2.0, 1), base(price=PriceSettings(by="flops")), project / "grid", 1)
    settings = job.trial.settings(job.base)
    assert (settings.prune.method, settings.prune.target.speedup, settings.seed) == ("drop", 2.0, 1)
    assert run_trial(job) == run_trial(job)
    assert len(runs) == 1
    job.record.write_text("{")
    with pytest.raises(InputError, match=r"drop-2x-seed1\.json is damaged .* Remove it to run the trial again"):
        run_trial(job)


def test_each_trial_of_the_grid_is_there_once():
    grid = trials_from_grid((Method.DROP, Method.DROP, Method.RANDOM), (2.0, 1.0), 2)
    assert [x.name for x in grid] == [
        f"{method}-{speedup}x-seed{seed}" for method in ("drop", "random") for speedup in (2, 1) for seed in (0, 1)
    ]


class FakeRay:
    """Runs what it is given when it is waited for, the last first, as a cluster might."""

    def __init__(self, cpus=4.0):
        self.resources, self.asked, self.leased, self.inits, self.down = {"CPU": cpus}, [], [], [], 0

    def is_initialized(self):
        return False

    def init(self, **options):
        self.inits.append(options)
        if options["address"] == "nowhere":
            raise ConnectionError("no Ray there")

    def cluster_resources(self):
        return self.resources

    def remote(self, **needs):
        self.asked.append(needs)
        return lambda function: SimpleNamespace(remote=lambda *given: (function, given))

    def wait(self, references, num_returns):
        return references[-1:], references[:-1]

    def get(self, reference):
        function, given = reference
        return function(*given)

    def shutdown(self):
        self.down += 1


@pytest.fixture
def ray(monkeypatch):
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(trial_queue, "leased_cpus", lambda count: nullcontext(fake.leased.append(count)))
    monkeypatch.setattr(console, "mode", console.OutputMode())
    return fake


def test_on_ray_the_results_are_the_same(slimbert, project, runs, ray):
    assert slimbert(*DATA, *GRID)[0] == 0
    found = json.loads((project / "grid" / "frontier.json").read_text())
    other = (*DATA[:-1], "other")
    code, _, error = slimbert(*other, *GRID, "--ray", "--address", "10.0.0.1:6379")
    assert code == 0, error
    again = json.loads((project / "other" / "frontier.json").read_text())
    assert {**again, "command": ""} == {**found, "command": ""}
    assert ray.asked == [{"num_cpus": 1, "num_gpus": 0, "max_retries": 0}]
    assert (ray.inits[0]["address"], ray.down) == ("10.0.0.1:6379", 1)
    assert ray.leased == [1] * 8


def test_a_node_without_the_folder_is_named(project, runs):
    job = TrialJob(Trial(Method.DROP, 2.0, 1), base(), project / "grid", 1)
    with pytest.raises(InputError, match=r"a node of the Ray cluster has no .*nowhere\. Work in a folder that all"):
        run_apart(job, project / "nowhere")


def test_a_cluster_without_room_or_without_ray_is_refused(slimbert, project, runs, ray, monkeypatch):
    assert (
        "Ray has 4 CPUs, and each trial needs 9. Ask for fewer --threads"
        in slimbert(*DATA, "--ray", "--threads", "9")[2]
    )
    assert (
        "Ray at nowhere cannot be used: no Ray there"
        in slimbert(*DATA, "--ray", "--address", "nowhere", "--threads", "9", "--resume")[2]
    )
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, error = slimbert(*DATA[:-1], "new", "--ray")
    assert (code, "Install it with: pip install 'slimbert[sweep]'" in error) == (2, True), error
    assert not (project / "new").exists()


@pytest.mark.slow
def test_real_runs_are_measured(slimbert, project):
    write_reviews(project / "reviews.csv", rows=100)
    quick = [x for x in QUICK if x not in ("--dtype", "fp32")]
    code, out, error = slimbert(*DATA, *quick, "--speedups", "2,900", "--seeds", "1", "--json")
    assert code == 0, error
    found = json.loads(out)
    assert [x["refused"] is None for x in found["trials"]] == [True, False]
    assert "at most" in found["trials"][1]["refused"]
    report = json.loads((project / "grid" / "trials" / "oneshot-2x-seed0" / "report.json").read_text())
    assert found["points"][0]["metric"]["value"] == report["candidate"]["metric"]["value"]
