"""Latency tables whose times are made up."""

from dataclasses import replace

from bench.table import TableSettings, identity_from_model
from pruning.checkpoint import load_checkpoint
from pruning.introspect import arch_from_model
from pruning.latency_table import LatencyTable, Row


def quiet_table(project, floor_ms=1.0, **identity):
    """A usable table for ``my-bert`` on this machine, with made-up times."""
    found, arch = _identity(project, identity)
    counts, widest = range(max(arch.heads) + 1), max(arch.ffn)
    heads, ffn = Row(counts, [0.0, *(1.0 + count for count in counts[1:])]), Row((0, widest), (0.0, 12.0))
    last = Row(counts, counts), Row((0, widest), (0.0, 0.3))
    return LatencyTable(found, "wall", heads, ffn, *last, floor_ms, 0.0, ())


def flat_table(project, **identity):
    """A table whose sublayers take as long at any width: starting them costs more than computing them."""
    heads, ffn = Row(range(5), (0.0, 9.0, 9.1, 9.2, 9.3)), Row((0, 1, 24), (0.0, 9.0, 9.2))
    found, arch = _identity(project, identity)
    assert max(arch.ffn) == 24
    return LatencyTable(found, "wall", heads, ffn, Row(range(5), heads.ms), Row((0, 1, 24), ffn.ms), 5.0, 0.0, ())


def _identity(project, changes):
    """What the table says it is for, and the architecture of ``my-bert``."""
    model = load_checkpoint(project / "my-bert").model
    return replace(identity_from_model(model, TableSettings(seq=16)), **changes), arch_from_model(model)
