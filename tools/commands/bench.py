"""``slimbert bench``: time any artifacts against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tools import options
from tools.console import say, show


def bench(
    baseline: Annotated[Path, Argument(metavar="BASELINE", help="Checkpoint, deploy folder or ONNX file.")],
    candidates: Annotated[list[Path], Argument(metavar="CANDIDATE...", help="What to compare with it.")],
    runtime: options.Runtime = "ort-cpu",
    batch: options.BatchSizes = "1",
    seq: options.Lengths = "128",
    threads: options.Threads = 1,
    blocks: options.Blocks = 30,
    warmup_seconds: options.WarmupSeconds = 1.0,
    clock: options.ClockName = "wall",
    seed: options.Seed = 0,
    json_file: Annotated[Path | None, Option("--json", help="Write all samples and figures to this file.")] = None,
    html_file: Annotated[Path | None, Option("--html", help="Write a self-contained page here.")] = None,
    fail_under: Annotated[
        float | None, Option("--fail-under", help="Exit 1 if a speedup's interval does not reach this everywhere.")
    ] = None,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Time candidates against a baseline: interleaved, with intervals and an A/A control."""
    from bench.report.bench_report import html_from_result
    from bench.report.console import console_from_result
    from pruning.atomic import write_json, write_text
    from tools import settings, standalone

    grid = settings.checked_settings(
        settings.BenchGrid,
        runtime=options.names(runtime),
        batch=options.integers(batch, "--batch"),
        seq=options.integers(seq, "--seq"),
        threads=threads,
        blocks=blocks,
        warmup_seconds=warmup_seconds,
        clock=clock,
    )
    result = standalone.bench(baseline, candidates, grid, seed=seed)
    show(console_from_result(result))
    if json_file is not None:
        write_json(json_file, result.to_dict())
        say(f"Samples: {json_file}")
    if html_file is not None:
        write_text(html_file, html_from_result(result))
        say(f"Page: {html_file}")
    slow = [] if fail_under is None else standalone.cells_under(result, fail_under)
    for line in slow:
        say(line)
    if slow:
        raise typer.Exit(1)
