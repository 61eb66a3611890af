"""``slimbert bench``: time any artifacts against a baseline; its side commands compare two files and make tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tools import options
from tools.command_group import MAIN, MainCommandGroup
from tools.commands.table import table
from tools.console import say, show

SAMPLES = Path("bench.json")

app = typer.Typer(cls=MainCommandGroup, help="Time any checkpoints and ONNX files against a baseline.")
app.command("table")(table)


@app.command(MAIN)
def bench(
    models: Annotated[
        list[str] | None,
        Argument(
            metavar="BASELINE CANDIDATE...",
            help="Checkpoints, deploy folders, ONNX files; PATH@RUNTIME or PATH@RUNTIME:DTYPE binds one.",
            show_default=False,
        ),
    ] = None,
    runtime: options.Runtime = "ort-cpu",
    batch: options.BatchSizes = "1",
    seq: options.Lengths = "128",
    threads: options.Threads = 1,
    blocks: options.Blocks = 30,
    calls: Annotated[int, Option("--calls", help="Calls of each model per block.")] = 4,
    processes: Annotated[
        int, Option("--processes", help="Repeat all of it in this many fresh processes; 5 or more show their spread.")
    ] = 1,
    warmup_seconds: options.WarmupSeconds = 1.0,
    clock: options.ClockName = "wall",
    dtype: Annotated[
        str | None, Option("--dtype", help="Precision of every model: fp32, fp16, bf16 or int8; default: its own.")
    ] = None,
    mixed_precision: Annotated[
        bool, Option("--mixed-precision", help="Let candidates have another precision than the baseline.")
    ] = False,
    cold_l2: Annotated[
        bool, Option("--cold-l2", help="GPU: flush the L2 cache before each call; needs --clock gpu.")
    ] = False,
    energy: Annotated[
        bool, Option("--energy", help="GPU: also measure joules per 1,000 requests, 2 s of calls per model and cell.")
    ] = False,
    compiled: Annotated[
        bool,
        Option(
            "--compile",
            help="torch-cpu: also compile each model for each shape, about a minute each, and take what is faster.",
        ),
    ] = False,
    seed: options.Seed = 0,
    data: Annotated[
        str | None, Option("--data", help="Texts to measure on: as for the other commands; default: random token ids.")
    ] = None,
    text_column: options.TextColumn = None,
    lengths: Annotated[
        str | None,
        Option("--lengths", help="Also measure padded, bucketed and packed batches of the texts in this data set."),
    ] = None,
    experiment: Annotated[
        str, Option("--experiment", help="What to measure, separated by commas: latency, throughput, load, cold-start.")
    ] = "latency",
    profile: Annotated[bool, Option("--profile", help="Also show where the time goes, by layer and operator.")] = False,
    rates: Annotated[
        str, Option("--rates", help="Load: arrivals per second, or shares of what the baseline reaches at most.")
    ] = "50%,70%,90%",
    load_seconds: Annotated[float, Option("--load-seconds", help="Load: how long requests arrive at each rate.")] = 20,
    max_batch: Annotated[int, Option("--max-batch", help="Load: answer up to this many waiting requests at once.")] = 1,
    max_delay_ms: Annotated[float, Option("--max-delay-ms", help="Load: how long a batch may wait for more.")] = 0,
    largest_batch: Annotated[int, Option("--largest-batch", help="Throughput: end the batch sweep here.")] = 64,
    repeats: Annotated[int, Option("--repeats", help="Cold start: fresh processes per model.")] = 5,
    from_file: Annotated[
        Path | None, Option("--from", help="Measure nothing: report on the samples in this file.")
    ] = None,
    json_file: Annotated[
        Path | None, Option("--json", help="Samples file, kept up to date meanwhile; default: bench.json.")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Measure only what the samples file lacks.")] = False,
    html_file: Annotated[Path | None, Option("--html", help="Write a self-contained page here.")] = None,
    markdown_file: Annotated[Path | None, Option("--markdown", help="Write Markdown tables here.")] = None,
    ladder: Annotated[
        bool, Option("--ladder", help="Show what each step gives, from model to model in the order given.")
    ] = False,
    metrics: Annotated[
        Path | None,
        Option("--metrics", help="CSV (or JSON objects) of model,metric,value[,task]: plots accuracy against speedup."),
    ] = None,
    published: Annotated[
        Path | None,
        Option("--published", help="CSV of system,method,task,metric,value,speedup: points for that plot."),
    ] = None,
    fail_under: Annotated[
        float | None, Option("--fail-under", help="Exit 1 if a speedup's interval does not reach this everywhere.")
    ] = None,
    fail_if_slower: Annotated[
        bool, Option("--fail-if-slower", help="Exit 1 if a candidate is slower than the baseline anywhere.")
    ] = False,
    strict: Annotated[
        bool, Option("--strict", help="Refuse to measure beside programs that use over a quarter of the cores.")
    ] = False,
    config: options.Config = None,
    quiet: options.Quiet = False,
) -> None:
    """Time candidates against a baseline: interleaved, with intervals and an A/A control.

    ``slimbert bench compare OLD.json NEW.json`` tells whether anything got slower between two samples files,
    ``slimbert bench table MODEL`` measures a latency table.
    """
    from bench.energy import ENERGY_SECONDS
    from bench.experiments.load import QueueRules
    from bench.report.bench_report import html_from_result, markdown_from_result
    from bench.report.console import console_from_ladder, console_from_result
    from pruning.atomic import require_writable, write_text
    from tools import benching, settings, workspace

    for page in (html_file, markdown_file):
        if page is not None:
            require_writable(page)
    if from_file is not None:
        result = benching.read(from_file, models or (), copy=json_file)
    else:
        named = benching.models_from_words(models or [])
        sources = benching.sources_from_data(
            named,
            None if data is None else settings.DataSettings(data=data, text_column=text_column),
            None if lengths is None else settings.DataSettings(data=lengths, text_column=text_column),
            seed,
        )
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
        workloads = benching.workloads_from_sources(sources)
        asked = replace(
            workspace.bench_settings(grid, seed),
            calls=calls,
            processes=processes,
            workloads=workloads,
            dtype=dtype,
            mixed_precision=mixed_precision,
            cold_l2=cold_l2,
            energy_seconds=ENERGY_SECONDS if energy else 0.0,
            compiled=compiled,
        )
        samples = json_file or SAMPLES
        plan = benching.plan_from_names(
            options.names(experiment),
            options.names(rates),
            profile=profile,
            load_seconds=load_seconds,
            largest_batch=largest_batch,
            repeats=repeats,
            rules=QueueRules(max_batch, max_delay_ms),
        )
        benching.check_load(strict=strict)
        result = benching.bench(named, asked, sources, samples, plan=plan, resume=resume)
        json_file = samples
    extras = benching.extras_from_files(result, metrics, published, ladder=ladder)
    show(console_from_result(result))
    if ladder:
        show(console_from_ladder(result))
    pages = {"Page": (html_file, html_from_result), "Markdown": (markdown_file, markdown_from_result)}
    for name, (path, text_from_result) in pages.items():
        if path is not None:
            write_text(path, text_from_result(result, extras))
            say(f"{name}: {path}")
    if json_file is not None:
        say(f"Samples: {json_file}")
    if strict:
        benching.check_idle(result)
    failed = benching.failed_gates(result, fail_under, slower=fail_if_slower)
    for line in failed:
        say(line)
    if failed:
        raise typer.Exit(1)


@app.command("compare")
def compare(
    old: Annotated[Path, Argument(metavar="OLD.json", help="Samples file of before.")],
    new: Annotated[Path, Argument(metavar="NEW.json", help="Samples file of now.")],
    fail_if_slower: Annotated[bool, Option("--fail-if-slower", help="Exit 1 if anything got slower.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Tell whether anything got slower between two samples files."""
    from bench.regression import regression_from_results
    from bench.report.regression import console_from_regression, dict_from_regression
    from bench.samples_file import read_samples
    from tools.console import print_json

    regression = regression_from_results(read_samples(old), read_samples(new))
    show(console_from_regression(regression))
    print_json(dict_from_regression(regression))
    if fail_if_slower and regression.slower:
        raise typer.Exit(1)
