"""The fastest model within a loss of accuracy, found by ``prune`` and ``run``."""

import json

import pytest

from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from tests.tools.conftest import QUICK, write_reviews
from tests.tools.tables import quiet_table
from tools.drop_search import DropTrial
from tools.held_out import HeldOut

TEXT = ("--task", "text-classification", "--data", "reviews.csv")
RUN = ("run", "my-bert", *TEXT, *QUICK, "--out", "out")
PRUNE = ("prune", "my-bert", "--data", "reviews.csv", "--ffn-multiple", "4", "--max-length", "16", "--out", "small")

PLAIN = ("prune", "my-bert", "--data", "reviews.csv", "--out", "small")


@pytest.fixture
def labelled(project):
    """Enough rows to choose with half of the held-out ones."""
    write_reviews(project / "reviews.csv", rows=150)
    return project


@pytest.fixture
def losses(monkeypatch):
    """Models up to 1.5x lose nothing, faster ones 5 points; the trials made so far."""
    tried = []

    def trial(held_out, model, speedup):
        tried.append(speedup)
        return DropTrial(speedup, 0.0 if speedup <= 1.5 else 5.0, 0.7)

    monkeypatch.setattr(HeldOut, "trial", trial)
    return tried


def report_of(project):
    return json.loads((project / "out" / "report.json").read_text())


def test_a_run_finds_the_fastest_model_and_says_how(slimbert, labelled, losses):
    code, _, error = slimbert(*RUN, "--max-drop", "1")
    assert code == 0, error
    report = report_of(labelled)
    search = report["drop_search"]
    kept = [row for row in search["trials"] if row["kept"]]
    assert [row["speedup"] for row in search["trials"]] == losses
    assert [kept[0]["speedup"], len(kept)] == [max(x for x in losses if x <= 1.5), 1]
    assert (search["allowed_points"], search["n"], kept[0]["error_points"]) == (1, 15, 0.7)
    dense, small = (arch_from_model(load_checkpoint(labelled / x).model) for x in ("my-bert", "out/compact"))
    flops = [x.encoder_flops(16, first_token=True) for x in (dense, small)]
    assert flops[1] <= flops[0] / kept[0]["speedup"]
    for name in ("report.md", "report.html"):
        text = (labelled / "out" / name).read_text()
        assert "How the speedup was chosen" in text
        assert "a loss of at most 1 points" in text
    assert "--max-drop 1.0" in report["command"]


def test_the_rows_that_choose_report_nothing(slimbert, labelled, monkeypatch):
    seen = []
    monkeypatch.setattr(
        HeldOut,
        "trial",
        lambda self, model, speedup: seen.append(self.rows) or DropTrial(speedup, 9.0 * (speedup > 1.5)),
    )
    assert slimbert(*RUN, "--max-drop", "1")[0] == 0
    report = report_of(labelled)
    assert len(seen[0]) == report["baseline"]["metric"]["n"] == report["candidate"]["metric"]["n"] == 15
    assert any("15 of its 30 rows; the other 15 chose the model" in note for note in report["notes"])


def test_a_stopped_search_continues_where_it_was(slimbert, labelled, losses, monkeypatch):
    whole, told = HeldOut.trial, []

    def stop(held_out, model, speedup):
        if len(told) == 2:
            raise KeyboardInterrupt
        told.append(speedup)
        return whole(held_out, model, speedup)

    monkeypatch.setattr(HeldOut, "trial", stop)
    assert slimbert(*RUN, "--max-drop", "1")[0] == 130
    monkeypatch.setattr(HeldOut, "trial", whole)
    del losses[:]
    assert slimbert(*RUN, "--max-drop", "1", "--resume")[0] == 0
    assert not set(losses) & set(told)
    assert [x["speedup"] for x in report_of(labelled)["drop_search"]["trials"]] == [*told, *losses]


def test_a_run_searches_in_measured_time(slimbert, labelled, losses):
    table = quiet_table(labelled, dialect="standard")
    table.save(labelled / "table.json")
    code, _, error = slimbert(*RUN, "--max-drop", "1", "--latency-table", "table.json")
    assert code == 0, error
    dense, small = (arch_from_model(load_checkpoint(labelled / x).model) for x in ("my-bert", "out/compact"))
    prices = table.prices(dense)
    kept = next(row for row in report_of(labelled)["drop_search"]["trials"] if row["kept"])
    assert prices.total(dense) / prices.total(small) >= kept["speedup"]


def test_prune_scores_real_models(slimbert, labelled):
    code, out, error = slimbert(*PRUNE, "--task", "text-classification", "--max-drop", "100", "--json")
    assert code == 0, error
    facts = json.loads(out)
    *_, last = facts["drop_search"]["trials"]
    assert last["kept"]
    assert last["error_points"] > 0
    assert facts["flops_ratio"] > 2
    assert facts["metrics"]["candidate"]["n"] == 15


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (
            RUN,
            ("--max-drop", "1", "--speedup", "2"),
            "exactly one of --speedup, --density, --params, --bytes, --shape and",
        ),
        (RUN, ("--max-drop", "1", "--speedup", "2"), "got --speedup and --max-drop"),
        (RUN, ("--max-drop", "-1"), "greater than or equal to 0; got -1"),
        (PRUNE, ("--max-drop", "1"), "--max-drop compares scores: pass --task, and labelled data"),
        (PLAIN, ("--max-drop", "1", "--method", "block-movement"), "--max-drop is not an option of --method block-m"),
        (PRUNE, ("--speedup", "2", "--task", "text-classification"), "--task is not an option of --method oneshot"),
    ],
)
def test_contradictions_are_refused(slimbert, labelled, command, arguments, message):
    code, _, error = slimbert(*command, *arguments)
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (labelled / command[-1]).exists()


def test_a_loss_that_cannot_be_kept_is_refused(slimbert, labelled, monkeypatch):
    monkeypatch.setattr(HeldOut, "trial", lambda self, model, speedup: DropTrial(speedup, 3.0, 1.0))
    code, _, error = slimbert(*RUN, "--max-drop", "1")
    assert code == 2
    assert "a loss of at most 1 points is out of reach: even at 1.04x the model loses 3.00 points" in error
    assert "Traceback" not in error


def test_it_needs_labels_and_enough_of_them(slimbert, project):
    code, _, error = slimbert(*RUN, "--max-drop", "1")
    assert (code, "at least 20 labelled evaluation rows; got 12" in error) == (2, True), error
    lines = (project / "reviews.csv").read_text().splitlines()
    (project / "reviews.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    code, _, error = slimbert(*RUN, "--max-drop", "1")
    assert (code, "there are no labels. Pass --eval-data" in error) == (2, True), error
    assert not (project / "out").exists()
