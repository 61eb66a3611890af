import json
from dataclasses import replace

import pytest

import tools.latency_tables
from bench.table_samples import read_table_samples
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from pruning.latency_table import load_table
from tests.tools.tables import flat_table, quiet_table


def test_a_table_is_written_and_judged(project, slimbert):
    """Timings of a tiny model may be noise: then it is refused, but still there to be looked at."""
    code, out, error = slimbert(
        "bench", "table", "my-bert", "--seq", "8", "--blocks", "1", "--out", "table.json", "--json"
    )
    table = load_table(project / "table.json")
    assert json.loads(out)["verdict"] == table.verdict
    assert (code, "too noisy" in error) == ((2, True) if table.verdict == "noisy" else (0, False))
    assert (table.identity.runtime, table.identity.seq) == ("ort-cpu", 8)


def test_a_table_needs_a_runtime_that_is_there(slimbert, project):
    code, _, error = slimbert("bench", "table", "my-bert", "--runtime", "abacus", "--out", "table.json")
    assert (code, "runtime 'abacus' is unknown" in error) == (2, True)


PRUNE = ("prune", "my-bert", "--data", "reviews.csv", "--ffn-multiple", "4", "--max-length", "16", "--out", "small")


def test_prune_keeps_a_budget_in_measured_time(slimbert, project):
    table = quiet_table(project)
    table.save(project / "table.json")
    code, out, error = slimbert(*PRUNE, "--speedup", "1.7", "--latency-table", "table.json", "--json")
    assert code == 0, error
    dense, small = (arch_from_model(load_checkpoint(project / name).model) for name in ("my-bert", "small"))
    prices = table.prices(dense)
    assert prices.total(dense) / prices.total(small) >= 1.7
    assert json.loads(out)["budget"].startswith("time / 1.7 on ort-cpu fp32, batch 1, sequence 16")


def test_prune_weighs_the_tables_of_several_scenarios(slimbert, project):
    for name, batch in (("a.json", 1), ("b.json", 8)):
        quiet_table(project, batch=batch).save(project / name)
    both = ("--latency-table", "a.json", "--latency-table", "b.json")
    code, out, error = slimbert(*PRUNE, "--speedup", "1.5", *both, "--scenario-weights", "2,1", "--json")
    assert code == 0, error
    assert "batch 1" in json.loads(out)["budget"]
    assert "batch 8" in json.loads(out)["budget"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--speedup", "2", "--latency-table", "other.json"), "for another device: Abacus; needed"),
        (
            ("--speedup", "2", "--latency-table", "other.json"),
            "Measure a new one: slimbert bench table MODEL --runtime",
        ),
        (("--speedup", "2", "--latency-table", "none.json"), "none.json cannot be read"),
        (("--speedup", "90", "--latency-table", "table.json"), "can not be pruned"),
        (("--density", "0.5", "--latency-table", "table.json"), "measured prices are for --speedup; got --density"),
        (("--latency-table", "table.json"), "pass exactly one of --speedup, --density"),
        (("--speedup", "2", "--density", "0.5"), "got --speedup and --density"),
        (("--speedup", "2", "--scenario-weights", "2,1"), "got 2 weights for 0 tables"),
        (("--speedup", "2", "--latency-table", "table.json", "--scenario-weights", "x"), "such as 2,1; got 'x'"),
        (("--speedup", "2", "--latency-table", "table.json", "--scenario-weights", "0"), "must be above 0 and finite"),
    ],
)
def test_requests_that_contradict_each_other_are_refused(slimbert, project, arguments, message):
    quiet_table(project).save(project / "table.json")
    quiet_table(project, device="Abacus").save(project / "other.json")
    code, _, error = slimbert(*PRUNE, *arguments)
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (project / "small").exists()


TABLE = ("bench", "table", "my-bert", "--seq", "8", "--blocks", "2", "--out", "table.json")


def test_a_stopped_table_is_resumed(project, slimbert, monkeypatch):
    write = tools.latency_tables.write_table_samples

    def stop(path, samples):
        write(path, samples)
        raise KeyboardInterrupt

    monkeypatch.setattr(tools.latency_tables, "write_table_samples", stop)
    code, _, error = slimbert(*TABLE)
    assert (code, "interrupted" in error) == (130, True)
    assert not (project / "table.json").exists()
    part = read_table_samples(project / "table.samples.json")
    assert len(part.blocks_ms) == 1
    monkeypatch.undo()
    monkeypatch.chdir(project)
    slimbert(*TABLE, "--resume")
    whole = read_table_samples(project / "table.samples.json")
    assert (len(whole.blocks_ms), whole.blocks_ms[:1]) == (2, part.blocks_ms)
    table = (project / "table.json").read_bytes()
    slimbert(*TABLE, "--resume")
    assert (project / "table.json").read_bytes() == table


def test_an_int8_table_prices_pruning(project, slimbert):
    slimbert(*TABLE, "--dtype", "int8", "--int8-kinds", "ffn-up,ffn-down")
    table = replace(load_table(project / "table.json"), residual=0.0)
    table.save(project / "table.json")
    assert table.identity.int8_kinds == ("ffn-up", "ffn-down")
    code, out, error = slimbert(*PRUNE, "--speedup", "1.01", "--latency-table", "table.json", "--json")
    assert code == 0, error
    assert "on ort-cpu int8" in json.loads(out)["budget"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dtype", "int8", "--int8-kinds", "wings"), "there is no kind of product 'wings'; there are qkv"),
        (("--dtype", "int8", "--runtime", "openvino"), "in int8 are for ort-cpu"),
        (("--out", "reviews.csv"), "reviews.csv would be overwritten, and it is no latency table"),
        (("--out", "mine.json"), "mine.samples.json would be overwritten"),
        (("--seed", "1", "--resume"), "their seed differ, 0 then, 1 now"),
    ],
)
def test_tables_that_cannot_be_measured_are_refused(project, slimbert, arguments, message):
    (project / "mine.samples.json").write_text("{}")
    slimbert(*TABLE)
    before = {path: path.read_bytes() for path in project.glob("*.*")}
    code, _, error = slimbert(*TABLE, *arguments)
    assert (code, message in error.splitlines()[-1]) == (2, True), error
    assert {path: path.read_bytes() for path in project.glob("*.*")} == before


def test_layers_are_dropped_where_the_table_is_flat_in_width(slimbert, project):
    table = flat_table(project)
    table.save(project / "table.json")
    timed = (*PRUNE, "--latency-table", "table.json", "--speedup", "1.6", "--json")
    code, out, error = slimbert(*timed)
    assert code == 0, error
    facts = json.loads(out)
    arch = arch_from_model(load_checkpoint(project / "small").model)
    assert (set(arch.heads), set(arch.ffn)) == ({0, 4}, {0, 24})
    assert facts["method"] == "drop"
    assert "narrower ones are hardly faster here. Halving every sublayer would save 2%" in facts["reasons"][0]
    prices = table.prices(arch_from_model(load_checkpoint(project / "my-bert").model))
    assert prices.total(arch) <= prices.total(arch_from_model(load_checkpoint(project / "my-bert").model)) / 1.6


def test_a_method_that_was_named_is_kept(slimbert, project):
    flat_table(project).save(project / "table.json")
    timed = (*PRUNE, "--latency-table", "table.json", "--speedup", "1.6", "--json")
    facts = json.loads(slimbert(*timed, "--method", "oneshot")[1])
    assert (facts["method"], facts["reasons"]) == ("oneshot", [])
