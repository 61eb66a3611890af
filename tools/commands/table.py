"""``slimbert bench table``: measure what each size of each sublayer costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from exporter.options import Dialect
from tools import options
from tools.console import print_json, say


def table(
    model: options.Model,
    out: Annotated[Path, Option("--out", help="JSON file to write.")],
    runtime: Annotated[str, Option("--runtime", help="Runtime to measure in.")] = "ort-cpu",
    dtype: Annotated[
        str, Option("--dtype", help="Precision: fp32, fp16, bf16 or int8, as far as the runtime has it.")
    ] = "fp32",
    batch: Annotated[int, Option("--batch", help="Batch size.")] = 1,
    seq: Annotated[int, Option("--seq", help="Sequence length.")] = 128,
    threads: options.Threads = 1,
    blocks: Annotated[int, Option("--blocks", help="Interleaved rounds over all sizes.")] = 30,
    clock: Annotated[str, Option("--clock", help="wall, or thread with one thread on a busy machine.")] = "wall",
    dialect: Annotated[
        Dialect | None, Option("--dialect", help="Operators of the graphs. Default: as slimbert run deploys them.")
    ] = None,
    int8_kinds: Annotated[
        str | None,
        Option("--int8-kinds", help="int8: products in int8, such as qkv,ffn-up,ffn-down, if not all as exported."),
    ] = None,
    seed: options.Seed = 0,
    resume: Annotated[bool, Option("--resume", help="Measure only what the samples kept beside --out lack.")] = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a latency table, with which prune and run reach a requested speedup."""
    from bench.table import TableSettings
    from pruning.atomic import require_writable
    from tools import latency_tables

    require_writable(out)
    kinds = latency_tables.product_kinds(options.names(int8_kinds or ""))
    settings = TableSettings(runtime, dtype, batch, seq, threads, blocks, clock, seed, dialect, kinds)
    measured = latency_tables.measure(model, settings, out, resume=resume)
    say(
        f"{out}: {measured.verdict}, residual {measured.residual:.1%}, whole models within "
        f"{measured.additivity_error:.1%}, floor {measured.floor_ms:.3g} ms"
    )
    print_json(measured.to_dict())
    measured.require_usable()
