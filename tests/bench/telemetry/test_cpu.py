"""Readings of the CPU and of memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bench.telemetry.cpu import (
    CpuSample,
    CpuTelemetry,
    file_bytes,
    load_average,
    peak_resident_bytes,
    read_cpu,
    resident_bytes,
)


def test_a_reading_says_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2400.0))
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 1.0, 0.5))
    sample = read_cpu()
    assert (sample.frequency_mhz, sample.load_average) == (2400.0, 1.5)


@pytest.mark.parametrize("frequency", [None, SimpleNamespace(current=0.0)])
def test_a_frequency_that_cannot_be_read_is_unknown(monkeypatch: pytest.MonkeyPatch, frequency: object) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: frequency)
    assert read_cpu().frequency_mhz is None


def test_a_system_without_load_average_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", missing)
    assert load_average() is None


def test_frequency_is_lowest_median_highest() -> None:
    samples = tuple(CpuSample(float(at), mhz, 0.0) for at, mhz in enumerate((2000.0, None, 3000.0, 2600.0)))
    assert CpuTelemetry(samples).frequency_mhz == (2000.0, 2600.0, 3000.0)
    assert CpuTelemetry(samples[1:2]).frequency_mhz is None


def test_peak_memory_is_read_from_the_status(tmp_path: Path) -> None:
    status = tmp_path / "status"
    assert peak_resident_bytes(status) is None
    status.write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
    assert peak_resident_bytes(status) == 2048 * 1024
    status.write_text("Name:\tpython\n")
    assert peak_resident_bytes(status) is None


def test_our_own_memory_is_positive() -> None:
    assert resident_bytes() > 10**6


def test_sizes_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.bin").write_bytes(b"123")
    (tmp_path / "inner" / "b.bin").write_bytes(b"4567")
    assert file_bytes(tmp_path / "a.bin") == 3
    assert file_bytes(tmp_path) == 7
