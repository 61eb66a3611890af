"""Does the benchmark find no difference where there is none, and the right one where it is known?

python benchmarks/bench_aa.py MODEL [--candidate SMALLER] [--out docs/results/bench-aa.md]

Measures MODEL against itself in many runs and exits with 1 if fewer than 19 in 20 say "no difference". With a
candidate, also measures it in two runs and states the share of the ideal (FLOP) speedup.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from bench.compare import compare
from bench.environment import environment_from_machine
from bench.result import BenchResult, BenchSettings
from bench.statistics import Comparison, RatioInterval, Verdict
from pruning.atomic import write_text

WANTED = 0.95
REPEATS = 2


def main() -> int:
    """Measure, print the tables, and write them where asked; the exit code says whether enough runs agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--candidate", type=Path, help="a smaller version of the model")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--runtime", default="ort-cpu")
    parser.add_argument("--clock", default="thread")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    settings = BenchSettings(runtimes=(options.runtime,), blocks=options.blocks, headline_clock=options.clock)
    start = time.perf_counter()
    same = [measure(options.model, options.model, replace(settings, seed=run)) for run in range(options.runs)]
    pruned = [
        measure(options.model, options.candidate, replace(settings, blocks=2 * options.blocks, seed=100 + run))
        for run in range(REPEATS if options.candidate else 0)
    ]
    agree = sum(comparison(result).verdict is Verdict.NO_DIFFERENCE for result in same)
    text = report(same, pruned, agree, time.perf_counter() - start)
    print(text)
    if options.out is not None:
        write_text(options.out, text)
    return 0 if agree >= WANTED * options.runs else 1


def measure(baseline: Path, candidate: Path, settings: BenchSettings) -> BenchResult:
    """One benchmark, models loaded anew."""
    result = compare(baseline, [candidate], settings, labels=("dense", "candidate"))
    print(settings.seed, comparison(result).ratio, comparison(result).verdict, file=sys.stderr)
    return result


def comparison(result: BenchResult) -> Comparison:
    """The candidate against the baseline in the only cell."""
    return result.comparison(result.cells[0], result.candidates[0].key)


def report(same: list[BenchResult], pruned: list[BenchResult], agree: int, seconds: float) -> str:
    """The tables as Markdown."""
    settings, machine = same[0].settings, environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    loads = [result.other_load for result in (*same, *pruned)]
    return "\n".join(
        [
            "# Does the benchmark believe in differences that are not there?",
            "",
            f"A model against itself: **{agree} of {len(same)} runs say “no difference”** (wanted: at least 19 in 20). "
            f"{same[0].cells[0]}, {settings.headline_clock} clock, {settings.threads} thread, {settings.blocks} blocks "
            f"of {settings.calls} calls, one process per script.",
            "",
            "| run | ratio (95 % interval) | A/A control | verdict | p50 of the baseline |",
            "|---:|---:|---:|---|---:|",
            *(line(run, result) for run, result in enumerate(same, 1)),
            "",
            *(pruned_lines(pruned) if pruned else []),
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}. Other programs "
            f"kept {min(loads):.1f} to {max(loads):.1f} cores busy meanwhile. {seconds / 60:.0f} minutes in all.",
            "",
            f"Command: `python {shlex.join(sys.argv)}` (`make bench-aa MODEL=...`).",
            "",
        ]
    )


def line(run: int, result: BenchResult) -> str:
    """One run against itself."""
    found = comparison(result)
    p50_ms = result.latency(result.cells[0], "baseline").p50_ms
    return f"| {run} | {fine(found.ratio)} | {fine(found.control)} | {found.verdict.value} | {p50_ms:.1f} ms |"


def pruned_lines(results: list[BenchResult]) -> list[str]:
    """The runs of a smaller model, and how far they lie apart."""
    ideal = results[0].ideal(results[0].cells[0], results[0].candidates[0].key)
    assert ideal is not None, "both models are checkpoints, so their architectures are known"
    ratios = [comparison(result).ratio for result in results]
    moved = max(ratio.value for ratio in ratios) / min(ratio.value for ratio in ratios) - 1
    return [
        f"The dense model against a smaller one, {results[0].candidates[0].arch}: {ideal:.2f}x fewer encoder FLOPs. "
        f"From run to run the ratio moved by {moved:.1%}.",
        "",
        "| run | speedup (95 % interval) | share of the ideal (95 % interval) | verdict |",
        "|---:|---:|---:|---|",
        *(
            f"| {run} | {fine(x.ratio)} | {x.ratio.value / ideal:.2f} "
            f"({x.ratio.low / ideal:.2f} to {x.ratio.high / ideal:.2f}) | {x.verdict.value} |"
            for run, x in enumerate(map(comparison, results), 1)
        ),
        "",
    ]


def fine(ratio: RatioInterval) -> str:
    """A ratio with three decimals: here the small differences matter."""
    return f"{ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
