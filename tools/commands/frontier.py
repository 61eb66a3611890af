"""``slimbert frontier``: accuracy against measured speedup, for a grid of methods, speedups and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Context, Option

from pruning.errors import InputError
from pruning.methods.names import Method
from tools import options
from tools.commands.run import run_settings
from tools.console import print_json, say

SAME_FOR_ALL = {"speedup": 1.0, "size_bytes": None, "export": "onnx", "dtype": "fp32", "target": ""}
"""Options of a run that a frontier does not have; the speedup is each trial's own."""


def frontier(
    context: Context,
    model: options.Model,
    task: options.Task,
    data: options.Data,
    out: Annotated[Path, Option("--out", help="Folder to write; may hold an earlier frontier to go on with.")],
    speedups: options.Grid = "1.25,1.5,2,3",
    methods: options.Methods = "oneshot",
    seeds: options.Seeds = 3,
    eval_data: options.EvalData = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    price: options.PriceName = None,
    latency_table: options.RunLatencyTable = None,
    reconstruct: options.Reconstruct = True,
    calibration: options.Calibration = 1024,
    ffn_multiple: options.FfnMultiple = None,
    dialect: options.RunDialect = "ort-cpu",
    runtime: options.Runtime = "ort-cpu",
    batch: options.BatchSizes = "1",
    seq: options.Lengths = "128",
    threads: options.Threads = 1,
    blocks: options.Blocks = 30,
    warmup_seconds: options.WarmupSeconds = 1.0,
    clock: options.ClockName = "wall",
    max_length: options.MaxLength = None,
    resume: options.Resume = False,
    ray: options.UseRay = False,
    address: options.RayAddress = None,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prune to a grid of speedups, with every method and seed, and draw accuracy against measured speedup."""
    from bench.report.sweep_report import markdown_from_sweep
    from tools import frontier as work

    unknown = [name for name in options.names(methods) if name not in list(Method)]
    if unknown:
        raise InputError(f"--methods does not know {', '.join(unknown)}; known: {', '.join(Method)}.")
    if address is not None and not ray:
        raise InputError("--address is of a Ray cluster. Pass --ray with it.")
    grid = work.Grid(
        tuple(Method(name) for name in options.names(methods)), options.numbers(speedups, "--speedups"), seeds
    )
    base = run_settings({**context.params, **SAME_FOR_ALL})
    sweep = work.run(base, grid, out, resume=resume, ray=ray, address=address)
    say(markdown_from_sweep(sweep, work.command_from_grid(base, grid, out)))
    say(f"Page: {out / 'frontier.html'}")
    print_json(sweep.to_dict())
