"""``slimbert run``: the whole job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Context, Option

from tools import options
from tools.console import print_json, say

if TYPE_CHECKING:
    from tools.settings import RunSettings


def run(
    context: Context,
    model: options.Model,
    task: options.Task,
    data: options.Data,
    out: Annotated[Path, Option("--out", help="Folder to write; must not hold anything else.")],
    eval_data: options.EvalData = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    speedup: options.Speedup = None,
    density: options.Density = None,
    params: options.Params = None,
    size_bytes: options.Bytes = None,
    shape: options.Shape = None,
    max_drop: options.MaxDrop = None,
    price: options.PriceName = None,
    latency_table: options.RunLatencyTable = None,
    method: options.MethodOption = None,
    reconstruct: options.Reconstruct = True,
    calibration: options.Calibration = 1024,
    ffn_multiple: options.FfnMultiple = None,
    export: options.ExportTo = "onnx",
    dtype: options.Dtypes = None,
    dialect: options.RunDialect = "ort-cpu",
    first_token: options.FirstToken = True,
    quantize_embeddings: options.QuantizeEmbeddings = False,
    target: options.Target = "",
    runtime: options.Runtime = "ort-cpu",
    batch: options.BatchSizes = "1",
    seq: options.Lengths = "128",
    threads: options.Threads = 1,
    blocks: options.Blocks = 30,
    warmup_seconds: options.WarmupSeconds = 1.0,
    clock: options.ClockName = "wall",
    max_length: options.MaxLength = None,
    seed: options.Seed = 0,
    with_code: options.WithCode = False,
    resume: options.Resume = False,
    push: options.Push = None,
    private: options.Private = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prune a fine-tuned BERT, export it, measure it against the original, and write a report."""
    from tools import pipeline, pushing

    pushing.check(push, private=private)
    report = pipeline.run(run_settings(context.params), out, resume=resume)
    say(pipeline.headline(report))
    for artifact in report["artifacts"]:
        say(f"{out / artifact['path']}: {artifact['dtype']}, {artifact['bytes'] / 1e6:.1f} MB")
        if artifact["note"]:
            say(f"  {artifact['note']}")
    say(f"Report: {out / 'report.html'}")
    for refused in report["not_shipped"]:
        say(f"Not shipped: {refused['artifact']}: {refused['reason']}")
    missed = pipeline.missed_text(report)
    if missed:
        say(missed)
    incomplete = any(refused["asked"] for refused in report["not_shipped"])
    if push and not incomplete:
        pushing.push_run(out, push, private=private)
    print_json(report)
    if incomplete or missed:
        raise typer.Exit(1)


def run_settings(given: Mapping[str, Any]) -> RunSettings:
    """What the options ask for."""
    from tools import settings

    build = settings.settings_from_options
    return build(
        settings.RunSettings,
        given,
        max_length=settings.length_from_options(given["max_length"], given["task"]),
        data=build(settings.DataSettings, given),
        prune=build(
            settings.PruneSettings,
            given,
            target=build(settings.TargetSettings, given, bytes=given["size_bytes"]),
            price=settings.checked_settings(
                settings.PriceSettings,
                by=given["price"],
                tables=() if given["latency_table"] is None else (given["latency_table"],),
            ),
        ),
        export=build(
            settings.ExportSettings,
            given,
            export=options.names(given["export"]),
            dtype=None if given["dtype"] is None else options.names(given["dtype"]),
            target=options.names(given["target"]),
        ),
        bench=build(
            settings.BenchGrid,
            given,
            runtime=options.names(given["runtime"]),
            batch=options.integers(given["batch"], "--batch"),
            seq=options.integers(given["seq"], "--seq"),
        ),
    )
