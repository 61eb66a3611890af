"""Latency tables whose times are made up."""

from dataclasses import replace

from bench.table import TableSettings, identity_from_model
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable, Row


def quiet_table(project, floor_ms=1.0, **identity):
    """A usable table for ``my-bert`` on this machine, with made-up times."""
    model = load_checkpoint(project / "my-bert").model
    arch = arch_from_model(model)
    heads, ffn = Row(range(5), (0.0, 2.0, 3.0, 4.0, 5.0)), Row((0, max(arch.ffn)), (0.0, 12.0))
    found = replace(identity_from_model(model, TableSettings(seq=16)), **identity)
    return LatencyTable(found, "wall", heads, ffn, Row(range(5), range(5)), Row((0, 24), (0.0, 0.3)), floor_ms, 0.0, ())
