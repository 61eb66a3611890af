import json

from pruning.latency_table import load_table


def test_a_table_is_written_and_judged(project, slimbert):
    """Timings of a tiny model may be noise: then it is refused, but still there to be looked at."""
    code, out, error = slimbert("table", "my-bert", "--seq", "8", "--blocks", "1", "--out", "table.json", "--json")
    table = load_table(project / "table.json")
    assert json.loads(out)["verdict"] == table.verdict
    assert (code, "too noisy" in error) == ((2, True) if table.verdict == "noisy" else (0, False))
    assert (table.identity.runtime, table.identity.seq) == ("ort-cpu", 8)


def test_a_table_needs_a_runtime_that_is_there(slimbert, project):
    code, _, error = slimbert("table", "my-bert", "--runtime", "abacus", "--out", "table.json")
    assert (code, "runtime 'abacus' is unknown" in error) == (2, True)
