"""A run whose speedup is counted in measured time: rounds, their report, and how it goes on after it was stopped."""

import json
from dataclasses import replace

import pytest
import yaml

import tools.latency_tables
import tools.measured_pruning
from bench.environment import installed_versions
from exporter.fastest import Speedup
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from tests.tools.conftest import QUICK
from tests.tools.tables import flat_table, quiet_table

MODEL = ("run", "my-bert", "--task", "text-classification", "--data", "reviews.csv", *QUICK, "--out", "out")
RUN = (*MODEL, "--latency-table", "table.json", "--speedup")


@pytest.fixture
def table(project):
    """``table.json`` for what ``RUN`` measures."""
    made = quiet_table(project, dialect="standard")
    made.save(project / "table.json")
    return made


@pytest.fixture
def clock(monkeypatch):
    """What each round measures, in turn; the rounds measured are taken off."""
    speeds = []

    def measured(work, folder):
        value = speeds.pop(0)
        return Speedup(value, value * 0.99, value * 1.01)

    monkeypatch.setattr(tools.measured_pruning, "measured_speedup", measured)
    return speeds


def report_of(project):
    return json.loads((project / "out" / "report.json").read_text())


def test_a_real_run_reports_requested_predicted_and_measured(slimbert, project, table, monkeypatch):
    """What a tiny model measures is noise, and taken as 1.5; that it is measured, and said so, is not."""
    really = tools.measured_pruning.measured_speedup
    monkeypatch.setattr(
        tools.measured_pruning, "measured_speedup", lambda *x: replace(really(*x), value=1.5, low=0.1, high=99.0)
    )
    code, _, error = slimbert(*RUN, "1.5")
    assert code == 0, error
    report = report_of(project)
    kept = next(x for x in report["speed_rounds"] if x["kept"])
    dense, small = (arch_from_model(load_checkpoint(project / x).model) for x in ("my-bert", "out/compact"))
    prices = table.prices(dense)
    assert kept["predicted"] == pytest.approx(prices.total(dense) / prices.total(small))
    assert kept["predicted"] >= kept["asked"] >= report["requested_speedup"] == 1.5
    assert kept["measured"]["ci95"][0] <= kept["measured"]["value"] <= kept["measured"]["ci95"][1]
    for name in ("report.md", "report.html"):
        assert "How the speedup was reached" in (project / "out" / name).read_text()
    assert yaml.safe_load((project / "out" / "config.yaml").read_text())["latency-table"] == "table.json"
    assert "--latency-table table.json" in report["command"]


def test_the_report_says_why_layers_were_dropped(slimbert, project, clock):
    flat_table(project, dialect="standard").save(project / "table.json")
    clock[:] = [1.6]
    code, _, error = slimbert(*RUN, "1.6")
    assert code == 0, error
    report = report_of(project)
    assert report["method"] == "drop"
    reason = "Whole sublayers were dropped (method drop): narrower ones are hardly faster here."
    assert any(note.startswith(reason) for note in report["notes"])
    assert all(reason in (project / "out" / name).read_text() for name in ("report.md", "report.html"))
    assert "--method" not in report["command"]


def test_a_request_is_corrected_by_what_was_measured(slimbert, project, table, clock):
    clock[:] = [1.2, 1.46]
    code, _, error = slimbert(*RUN, "1.5")
    assert (code, clock) == (0, []), error
    rounds = report_of(project)["speed_rounds"]
    assert [x["kept"] for x in rounds] == [False, True]
    assert [x["asked"] for x in rounds] == pytest.approx([1.5, 1.5 * 1.5 / 1.2])


def test_what_is_not_reached_is_said(slimbert, project, table, clock):
    clock[:] = [1.2, 1.3, 1.25]
    code, out, _ = slimbert(*RUN, "1.5")
    said = "The requested speedup of 1.5 was not reached: 1.300 was measured on ort-cpu fp32, batch 1, sequence 16."
    assert (code, said in " ".join(out.split())) == (1, True), out
    report = report_of(project)
    assert [x["kept"] for x in report["speed_rounds"]] == [False, True, False]
    assert "The requested speedup of 1.5 was not reached: 1.300 after 3 rounds." in report["notes"]


def test_a_finished_round_is_never_repeated(slimbert, project, table, clock, monkeypatch):
    clock[:] = [1.2]
    with pytest.raises(IndexError):  # stopped in the second round
        slimbert(*RUN, "1.5")
    clock[:] = [1.5]
    pruned = []
    prune = tools.measured_pruning.prune_to_target
    monkeypatch.setattr(
        tools.measured_pruning,
        "prune_to_target",
        lambda work, target, folder: pruned.append(folder.name) or prune(work, target, folder),
    )
    assert slimbert(*RUN, "1.5", "--resume")[0] == 0
    assert pruned == ["round-2"]
    assert [x["measured"]["value"] for x in report_of(project)["speed_rounds"]] == [1.2, 1.5]


def test_without_a_table_one_is_measured_once(slimbert, project, table, clock, monkeypatch):
    measured = []
    monkeypatch.setattr(tools.latency_tables, "measure_table", lambda *_, **__: measured.append(1) or table)
    with pytest.raises(IndexError):
        slimbert(*MODEL, "--price", "measured", "--speedup", "1.5")
    clock[:] = [1.5]
    code, _, error = slimbert(*MODEL, "--price", "measured", "--speedup", "1.5", "--resume")
    assert (code, len(measured)) == (0, 1), error


def test_the_smallest_model_is_too_slow(slimbert, project, clock):
    quiet_table(project, floor_ms=20.0, dialect="standard").save(project / "table.json")
    clock[:] = [1.1]
    code, _, error = slimbert(*RUN, "1.8")
    assert (code, clock) == (2, []), error
    assert "a speedup of 1.8 is out of reach: the largest that was measured is 1.10 (" in error
    assert "for more, the budget (time / 2." in error
    assert "embeddings, norms and the head, can not be pruned" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--latency-table", "table.json", "--speedup", "90"), "can not be pruned"),
        (("--latency-table", "batch8.json", "--speedup", "2"), "for another batch: 8; needed 1"),
        (("--latency-table", "fused.json", "--speedup", "2"), "for another dialect: ort-cpu; needed standard"),
        (("--latency-table", "torch.json", "--speedup", "2"), "for another runtime: torch-cpu; needed ort-cpu"),
        (("--latency-table", "large.json", "--speedup", "2"), "for another hidden: 768; needed 16"),
        (("--latency-table", "old.json", "--speedup", "2"), "for another versions: {'onnxruntime': '1.0'}; needed"),
        (("--latency-table", "old.json", "--speedup", "2"), "Measure a new one: slimbert bench table MODEL --runtime"),
        (("--latency-table", "none.json", "--speedup", "2"), "none.json cannot be read"),
        (("--latency-table", "table.json", "--params", "1000"), "measured prices are for --speedup; got --params"),
        (("--latency-table", "table.json"), "pass exactly one of"),
        (("--price", "measured", "--density", "0.5"), "measured prices are for --speedup; got --density"),
        (("--price", "flops", "--latency-table", "table.json", "--speedup", "2"), "reads no --latency-table"),
        (("--price", "gold", "--speedup", "2"), "by: input should be 'flops' or 'measured'"),
        (("--price", "measured", "--speedup", "2", "--runtime", "ort-cpu,torch-cpu"), "for one --runtime; got"),
        (("--price", "measured", "--speedup", "2", "--no-first-token"), "Leave --no-first-token out"),
    ],
)
def test_requests_that_cannot_be_measured_are_refused(slimbert, project, table, arguments, message):
    quiet_table(project, dialect="standard", batch=8).save(project / "batch8.json")
    quiet_table(project).save(project / "fused.json")
    quiet_table(project, dialect="standard", hidden=768).save(project / "large.json")
    quiet_table(project, dialect="standard", versions={"onnxruntime": "1.0"}).save(project / "old.json")
    quiet_table(project, dialect=None, runtime="torch-cpu", versions=installed_versions(("torch",))).save(
        project / "torch.json"
    )
    code, _, error = slimbert(*MODEL, *arguments)
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (project / "out").exists()
