"""The machine a measurement was made on: what a reader needs to judge or repeat it."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import psutil

DISTRIBUTIONS = ("torch", "transformers", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")
BUSY_SHARE = 0.25
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Environment:
    """Hardware and versions; ``versions`` lists the installed ones of the libraries that matter for speed."""

    cpu: str
    cores: int
    memory_bytes: int
    os: str
    python: str
    versions: dict[str, str]

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


def environment_from_machine() -> Environment:
    """Describe the machine that runs this."""
    return Environment(
        cpu=cpu_from_cpuinfo(CPUINFO) or platform.processor() or platform.machine(),
        cores=core_count(),
        memory_bytes=int(psutil.virtual_memory().total),
        os=platform.platform(),
        python=platform.python_version(),
        versions=installed_versions(DISTRIBUTIONS),
    )


def cpu_from_cpuinfo(cpuinfo: Path) -> str | None:
    """The CPU's marketing name as Linux tells it; None elsewhere, and where the kernel does not say."""
    if not cpuinfo.is_file():
        return None
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def installed_versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Version of each distribution that is installed."""
    installed = {}
    for name in distributions:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def core_count() -> int:
    """Logical cores."""
    return int(psutil.cpu_count() or 1)


class OtherLoad:
    """Cores kept busy by other processes since the meter was made.

    A load average would count our own work of the minute before, and says nothing about the minutes that matter.
    """

    def __init__(self) -> None:
        self._start = _cpu_seconds()

    def cores(self) -> float:
        """Mean number of cores, 0 if nothing else ran."""
        (wall, everyone, own), (wall_0, everyone_0, own_0) = _cpu_seconds(), self._start
        elapsed = wall - wall_0
        return max(0.0, (everyone - everyone_0) - (own - own_0)) / elapsed if elapsed > 0 else 0.0


def is_loaded(other_cores: float, cores: int) -> bool:
    """Whether others keep more than a quarter of the cores busy: timings then wander."""
    return other_cores > BUSY_SHARE * cores


def _cpu_seconds() -> tuple[float, float, float]:
    """Wall time, CPU time of all processes, and CPU time of this one."""
    everyone, own = psutil.cpu_times(), psutil.Process().cpu_times()
    return time.monotonic(), everyone.user + everyone.system, own.user + own.system
