"""What is said about the machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bench import environment
from bench.environment import cpu_from_cpuinfo, environment_from_machine, installed_versions, is_loaded


def test_environment_is_plain_data_with_the_versions_that_matter() -> None:
    data = json.loads(json.dumps(environment_from_machine().to_dict()))
    assert data["cores"] >= 1
    assert data["memory_bytes"] > 0
    assert data["cpu"]
    assert data["versions"]["torch"]


def test_cpu_name_is_read_from_cpuinfo(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nmodel name\t: Fast CPU: 9000\nmodel name\t: Other\n")
    assert cpu_from_cpuinfo(path) == "Fast CPU: 9000"


def test_cpu_name_is_none_where_the_kernel_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    assert cpu_from_cpuinfo(path) is None
    path.write_text("processor\t: 0\n")
    assert cpu_from_cpuinfo(path) is None


def test_versions_skip_what_is_not_installed() -> None:
    assert set(installed_versions(("numpy", "surely-not-installed"))) == {"numpy"}


@pytest.mark.parametrize(("load", "loaded"), [(0.5, False), (2.0, False), (2.1, True)])
def test_a_machine_is_loaded_above_a_quarter_of_its_cores(load: float, loaded: bool) -> None:
    assert is_loaded(load, cores=8) is loaded


def test_our_own_work_is_not_the_load_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(10.0, 100.0, 5.0), (14.0, 107.0, 8.0)])
    monkeypatch.setattr(environment, "_cpu_seconds", lambda: next(readings))
    assert environment.OtherLoad().cores() == pytest.approx((7 - 3) / 4)


def test_clocks_that_disagree_never_give_a_negative_load(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(10.0, 100.0, 5.0), (14.0, 101.0, 8.0), (0.0, 0.0, 0.0), (0.0, 1.0, 0.0)])
    monkeypatch.setattr(environment, "_cpu_seconds", lambda: next(readings))
    assert environment.OtherLoad().cores() == 0.0
    assert environment.OtherLoad().cores() == 0.0


def test_the_real_meter_reads_something_sensible() -> None:
    meter = environment.OtherLoad()
    time.sleep(0.5)  # the kernel counts in hundredths of a second
    assert 0 <= meter.cores() <= 1.5 * environment.core_count()
