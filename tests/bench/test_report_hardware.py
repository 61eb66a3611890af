"""Reports of a GPU: launch-bound rows, variants, and what the hardware did meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bench.report.bench_report import html_from_result, markdown_from_result
from bench.report.console import console_from_ladder, console_from_result
from bench.report.hardware import hardware_table
from bench.report.rows import rows_from_result
from bench.result import BenchResult
from bench.telemetry.recorded import hardware_records, variants_ms
from pruning.errors import InputError
from tests.bench.device_result import VARIANTS_MS, device_result, gpu_sample, hardware_record
from tests.bench.fakes import fake_result
from tests.bench.test_report import Page, shown

VARIANTS = {"baseline": {"1x128": VARIANTS_MS}, "candidate-1": {"1x128": {"eager": 1.0, "compiled": 1.2}}}
READ = hardware_record(
    gpu_sample(0.5, temperature_c=55), gpu_sample(1.5, sm_clock_mhz=1200, throttle=("SwPowerCap",), power_w=250.0),
    gpu_sample(1.8, sm_clock_mhz=1200, other_processes=2),
)  # fmt: skip


def texts(result: BenchResult) -> list[str]:
    """The result in every form, from its samples file."""
    read = BenchResult.from_dict(json.loads(json.dumps(result.to_dict())))
    return [shown(console_from_result(read)), markdown_from_result(read), html_from_result(read)]


def test_a_launch_bound_row_says_so() -> None:
    (cell,) = rows_from_result(device_result())
    assert {row.key: row.launch_bound for row in cell.rows} == {
        "baseline": False, "control": False, "candidate-1": True
    }  # fmt: skip
    markdown = markdown_from_result(device_result())
    assert "0.901 ms (launch-bound)" in markdown
    assert "more than 80 % of the GPU's time: compact in torch-cuda, batch 1, sequence 128" in markdown
    assert not any(row.launch_bound for cell in rows_from_result(fake_result()) for row in cell.rows)
    assert "aunch-bound" not in markdown_from_result(fake_result())


@pytest.mark.parametrize("clock", ["gpu", "end-to-end"])
def test_every_latency_names_its_clock(clock: str) -> None:
    result = device_result()
    result = replace(result, settings=replace(result.settings, headline_clock=clock))
    for name in ("gpu", "enqueue", "end-to-end"):
        assert markdown_from_result(result).count(f" p50 ({name} clock) ") == 1
    assert "p50 (wall clock)" in markdown_from_result(fake_result())
    assert "p90 (wall clock)" in markdown_from_result(fake_result())
    assert "p50 (wall clock)" in shown(console_from_ladder(fake_result(candidates=2)))


def test_variants_are_beside_the_latency_the_fastest_first() -> None:
    for text in texts(device_result(variants_ms=VARIANTS)):
        assert "variants" in text
    markdown = markdown_from_result(device_result(variants_ms=VARIANTS))
    assert "variants (gpu clock)" in markdown
    assert "cuda-graph 2.00 ms, compiled 2.50 ms, eager 3.00 ms" in markdown
    assert "eager 1.00 ms, compiled 1.20 ms" in markdown
    assert "variants" not in markdown_from_result(device_result())


def test_variants_are_means_over_shapes_and_processes() -> None:
    cell = device_result(variants_ms={"baseline": {"1x64": {"eager": 1.0}, "1x128": {"eager": 2.0}}}).cells[0]
    other = replace(cell.repetitions[0], telemetry={"variants_ms": {"baseline": {"1x64": {"eager": 6.0}}}})
    assert variants_ms(replace(cell, repetitions=(*cell.repetitions, other)), "baseline") == {"eager": 3.0}
    assert variants_ms(cell, "candidate-1") == {}


def test_the_hardware_is_told_in_every_report() -> None:
    result = device_result(READ)
    assert hardware_records(result.cells[0]) == (READ,)
    table = hardware_table(result)
    assert table is not None
    (row,) = table.rows
    assert dict(zip(table.columns, row, strict=True)) == {
        "cell": "torch-cuda, batch 1, sequence 128",
        "GPU": "Example GPU",
        "SM clock": "1200 / 1500 MHz",
        "memory clock": "2600 MHz",
        "throttling": "SwPowerCap",
        "blocks dropped": "2 of 2",
        "power": "250 / 300 W",
        "temperature": "55 / 60 °C",
        "GPU memory": "2.0 GB",
        "other processes": "2",
        "CPU frequency": "2900 / 3000 / 3100 MHz",
        "peak memory": "1.5 GB",
    }
    for text in texts(result):
        assert "Hardware while measuring" in text
    Page(html_from_result(result))


def test_a_gpu_that_could_not_be_read_is_named() -> None:
    table = hardware_table(device_result(hardware_record(problem="nvidia-ml-py is not installed")))
    assert table is not None
    assert table.columns == ("cell", "CPU frequency", "peak memory")
    assert "The GPU could not be read: nvidia-ml-py is not installed" in table.note


def test_without_readings_there_is_no_hardware_part() -> None:
    assert hardware_table(device_result()) is None
    for text in texts(device_result()):
        assert "Hardware while measuring" not in text


@pytest.mark.parametrize("telemetry", [{"0": {"blocks": []}}, {"0": 1}, {"variants_ms": {"baseline": 1}}])
def test_damaged_telemetry_is_one_line(telemetry: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"the telemetry of a benchmark is damaged: .*Measure again"):
        markdown_from_result(device_result(**telemetry))
