"""What slimbert itself costs: seconds and peak memory of pruning and exporting MiniLM, each in a fresh process.

python benchmarks/tool_cost.py --out docs/results/tool-cost.md
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.environment import environment_from_machine
from pruning.atomic import write_text
from tools import demo

CALIBRATION = 1024


def main() -> None:
    """Measure, print a table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = demo.package_folder(demo.MODEL_PACKAGE) / "model"
    data = demo.package_folder(demo.DATA_PACKAGE) / demo.DATA_FOLDER / "train.csv"
    text = report(model, data, options.rounds)
    print(text)
    if options.out is not None:
        write_text(options.out, text)


def report(model: Path, data: Path, rounds: int) -> str:
    """The table as Markdown."""
    lines = ["| step | seconds inside the step | seconds of the whole command | peak memory |", "|---|---:|---:|---:|"]
    for name in ("prune", "export"):
        inside, whole, peak = zip(*(measure(name, model, data) for _ in range(rounds)), strict=True)
        lines.append(f"| {name} | {spread(inside)} | {spread(whole)} | {max(peak) / 1e9:.2f} GB |")
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n".join(
        [
            "# What slimbert itself costs",
            "",
            f"all-MiniLM-L6-v2, 2x fewer encoder FLOPs, fisher scores with reconstruction, {CALIBRATION} calibration "
            f"texts of at most 128 tokens; {rounds} fresh processes, median (smallest to largest).",
            "",
            *lines,
            "",
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            "",
            "Command: `make bench` (`python benchmarks/tool_cost.py --out docs/results/tool-cost.md`).",
            "",
        ]
    )


def measure(name: str, model: Path, data: Path) -> tuple[float, float, int]:
    """Seconds of the step, seconds of the command, and its peak resident bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        out = str(Path(scratch) / "out")
        arguments = {
            "prune": ["prune", str(model), "--data", str(data), "--speedup", "2", "--calibration", str(CALIBRATION)],
            "export": ["export", str(model)],
        }[name]
        command = [sys.executable, "-m", "tools.cli", *arguments, "--out", out, "--json"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        whole = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    seconds = json.loads(printed)["seconds"]
    return (sum(seconds.values()) if name == "prune" else seconds), whole, usage.ru_maxrss * 1024


def spread(values: tuple[float, ...]) -> str:
    """Median, smallest and largest."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.1f} ({ordered[0]:.1f} to {ordered[-1]:.1f})"


if __name__ == "__main__":
    main()
