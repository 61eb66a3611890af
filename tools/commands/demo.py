"""``slimbert demo``: the whole job on a small real model and data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tools import options
from tools.console import print_json, say


def demo(
    out: Annotated[Path, Option("--out", help="Folder to write.")] = Path("slimbert-demo"),
    speedup: Annotated[float, Option("--speedup", help="Divide the encoder's FLOPs by this.")] = 2.2,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Fine-tune MiniLM as a prompt-injection guard, prune it, export it, measure it. No hub, no GPU."""
    from tools import demo as job
    from tools import pipeline

    report = job.demo(out, speedup=speedup, seed=seed, resume=resume)
    say(pipeline.headline(report))
    say(f"Report: {out / 'run' / 'report.html'}")
    print_json(report)
