"""``slimbert run``: the whole job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from pruning.methods.names import Method
from tools import options
from tools.console import print_json, say


def run(
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
    method: options.MethodOption = Method.ONESHOT,
    reconstruct: options.Reconstruct = True,
    calibration: options.Calibration = 1024,
    ffn_multiple: options.FfnMultiple = 32,
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
    max_length: options.MaxLength = 128,
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
    from tools import pipeline, pushing, settings

    pushing.check(push, private=private)
    request = settings.RunSettings(
        model=model,
        task=task,
        data=settings.checked_settings(
            settings.DataSettings,
            data=data,
            eval_data=eval_data,
            text_column=text_column,
            pair_column=pair_column,
            label_column=label_column,
            data_config=data_config,
        ),
        prune=settings.checked_settings(
            settings.PruneSettings,
            method=method,
            target=settings.TargetSettings(
                speedup=speedup, density=density, params=params, bytes=size_bytes, shape=shape
            ),
            reconstruct=reconstruct,
            calibration=calibration,
            ffn_multiple=ffn_multiple,
        ),
        export=settings.checked_settings(
            settings.ExportSettings,
            export=options.names(export),
            dtype=None if dtype is None else options.names(dtype),
            dialect=dialect,
            first_token=first_token,
            quantize_embeddings=quantize_embeddings,
            target=options.names(target),
        ),
        bench=settings.checked_settings(
            settings.BenchGrid,
            runtime=options.names(runtime),
            batch=options.integers(batch, "--batch"),
            seq=options.integers(seq, "--seq"),
            threads=threads,
            blocks=blocks,
            warmup_seconds=warmup_seconds,
            clock=clock,
        ),
        max_length=max_length,
        seed=seed,
        with_code=with_code,
    )
    report = pipeline.run(request, out, resume=resume)
    say(pipeline.headline(report))
    say(f"Report: {out / 'report.html'}")
    for refused in report["not_shipped"]:
        say(f"Not shipped: {refused['artifact']}: {refused['reason']}")
    incomplete = any(refused["asked"] for refused in report["not_shipped"])
    if push and not incomplete:
        pushing.push_run(out, push, private=private)
    print_json(report)
    if incomplete:
        raise typer.Exit(1)
