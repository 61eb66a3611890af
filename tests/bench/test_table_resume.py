"""A stopped table keeps its blocks and goes on exactly; samples of another table are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import bench.table
from bench.table import CALLS_PER_BLOCK, WARMUP_CALLS, TableSettings, measure_table
from bench.table_samples import TableSamples, read_table_samples, samples_path, write_table_samples
from bench.timer import Clock, time_calls
from pruning.errors import InputError
from pruning.latency_table import LatencyTable
from tests.bench.test_table import FakeDevice, FakeRunner
from tests.tiny import tiny_bert

SETTINGS = TableSettings(seq=16, blocks=4)


class Machine(FakeDevice):
    """Every call takes its true time; Ctrl-C comes after some calls. Remembers the order of the calls."""

    def __init__(self, calls: int | None = None) -> None:
        super().__init__(noise=0.0)
        self.left = calls
        self.order: list[object] = []

    def call(self, probe: object) -> None:
        if self.left is not None and len(self.order) == self.left:
            raise KeyboardInterrupt
        self.order.append(probe)
        self.now += int(1e6 * self.true_ms(probe))


def measured(
    monkeypatch: pytest.MonkeyPatch, machine: Machine, settings: TableSettings = SETTINGS, **kept: object
) -> LatencyTable:
    monkeypatch.setattr(bench.table, "_load_probe", lambda model, probe, asked, folder: FakeRunner(machine, probe))
    timer = partial(time_calls, clocks=[Clock("wall", lambda: machine.now)])
    return measure_table(tiny_bert(), settings, time_block=timer, **kept)


def stopped(monkeypatch: pytest.MonkeyPatch, blocks: float) -> TableSamples:
    """What is kept of a measurement that is interrupted in a block."""
    kept: list[TableSamples] = []
    whole = Machine()
    measured(monkeypatch, whole)
    probes = len(whole.order) // (WARMUP_CALLS + SETTINGS.blocks * CALLS_PER_BLOCK)
    with pytest.raises(KeyboardInterrupt):
        measured(monkeypatch, Machine(int(probes * (WARMUP_CALLS + blocks * CALLS_PER_BLOCK))), keep=kept.append)
    return kept[-1]


def test_a_stopped_table_goes_on_exactly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    part = stopped(monkeypatch, blocks=2.5)
    assert len(part.blocks_ms) == 2
    write_table_samples(tmp_path / "table.samples.json", part)
    again, whole = Machine(), Machine()
    resumed = measured(monkeypatch, again, previous=read_table_samples(tmp_path / "table.samples.json"))
    assert resumed == measured(monkeypatch, whole)
    measured_calls = CALLS_PER_BLOCK * 2 * len(part.probes)
    assert again.order[-measured_calls:] == whole.order[-measured_calls:]
    assert len(again.order) == measured_calls + WARMUP_CALLS * len(part.probes)


def test_a_finished_table_is_computed_without_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[TableSamples] = []
    table = measured(monkeypatch, Machine(), keep=kept.append)
    assert measured(monkeypatch, Machine(0), previous=kept[-1]) == table
    more: list[TableSamples] = []
    measured(monkeypatch, Machine(), replace(SETTINGS, blocks=5), previous=kept[-1], keep=more.append)
    assert more[-1].blocks_ms[:4] == kept[-1].blocks_ms
    assert len(more) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 2}, "their batch differ, 1 then, 2 now"),
        ({"clock": "thread"}, "their clock differ, wall then, thread now"),
        ({"seed": 1}, "their seed differ"),
        ({"dtype": "int8"}, "their dtype differ, fp32 then, int8 now"),
    ],
)
def test_samples_of_another_table_are_not_continued(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object], message: str
) -> None:
    part = stopped(monkeypatch, blocks=1)
    with pytest.raises(InputError, match=message):
        measured(monkeypatch, Machine(0), replace(SETTINGS, **change), previous=part)
    with pytest.raises(InputError, match="their probes differ"):
        measured(monkeypatch, Machine(0), previous=replace(part, probes=part.probes[:1], blocks_ms=()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a samples file: invalid JSON"),
        ("[]", "it holds list, not a JSON object. Pass latency table samples"),
        ('{"schema": 2}', "no latency table samples of schema 1"),
        ('{"schema": 1, "what": "latency table samples"}', "damaged latency table samples: identity"),
    ],
)
def test_broken_or_foreign_samples_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.samples.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_table_samples(path)


def test_a_block_that_lacks_a_probe_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads(json.dumps(stopped(monkeypatch, blocks=1).to_dict()))
    data["blocks_ms"][0].pop()
    with pytest.raises(InputError, match=r"every block needs \d+ probes"):
        TableSamples.from_dict(data)


def test_samples_lie_beside_their_table() -> None:
    assert samples_path(Path("out/table.json")) == Path("out/table.samples.json")
    assert samples_path(Path("table")) == Path("table.samples")
