"""Latency tables whose times are made up."""

from dataclasses import replace

from bench.table import TableSettings, identity_from_model
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable, Row


def quiet_table(project, floor_ms=1.0, **identity):
    """A usable table for ``my-bert`` on this machine, with made-up times."""
    heads, ffn = Row(range(5), (0.0, 2.0, 3.0, 4.0, 5.0)), Row((0, 24), (0.0, 12.0))
    found = _identity(project, identity)
    return LatencyTable(found, "wall", heads, ffn, Row(range(5), range(5)), Row((0, 24), (0.0, 0.3)), floor_ms, 0.0, ())


def flat_table(project, **identity):
    """A table whose sublayers take as long at any width: starting them costs more than computing them."""
    heads, ffn = Row(range(5), (0.0, 9.0, 9.1, 9.2, 9.3)), Row((0, 1, 24), (0.0, 9.0, 9.2))
    found = _identity(project, identity)
    return LatencyTable(found, "wall", heads, ffn, Row(range(5), heads.ms), Row((0, 1, 24), ffn.ms), 5.0, 0.0, ())


def _identity(project, changes):
    model = load_checkpoint(project / "my-bert").model
    assert max(arch_from_model(model).ffn) == 24
    return replace(identity_from_model(model, TableSettings(seq=16)), **changes)
