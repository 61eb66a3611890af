"""Pruned BERT-base shapes with random weights against dense BERT-base on a GPU, runtime by runtime, dtype by dtype.

python benchmarks/shapes.py shapes.json --out gpu-results

The shapes file maps names to ``heads`` and ``ffn`` lists: {"hidden_size", "head_dim", "shapes": {name: {...}}}.
Run again after an interruption: finished blocks are kept. On torch-cuda each side is the fastest of eager, compiled
and CUDA-graphed, all of them recorded; the fixed grid is batch 1, 8, 32, 128 at sequence 128 and 384.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel, PreTrainedTokenizerFast

from bench.cell import Cell
from bench.compare import measure
from bench.contestants import name_models
from bench.device_timer import ENQUEUE_CLOCK, GPU_CLOCK, is_launch_bound
from bench.result import BenchModel, BenchResult, BenchSettings
from bench.runners.registry import RUNNERS
from bench.samples_file import read_samples, write_samples
from pruning.atomic import write_text
from pruning.checkpoint import save_checkpoint
from pruning.config import CompactBertConfig
from pruning.errors import InputError
from pruning.heads import HEAD_CLASSES

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

DTYPES = {
    "torch-cuda": ("fp16", "bf16"),
    "ort-cuda": ("fp16",),
    "torch-cpu": ("fp32",),
    "ort-cpu": ("fp32",),
    "openvino": ("fp32",),
}


def main(arguments: list[str] | None = None) -> None:
    """Measure whatever is missing, and write the table."""
    options = parse(arguments)
    runtimes = options.runtime or [name for name in ("torch-cuda", "ort-cuda") if RUNNERS[name].missing() is None]
    if not runtimes:
        raise SystemExit(f"no GPU runtime: {RUNNERS['torch-cuda'].missing()}")
    described = json.loads(options.shapes.read_text(encoding="utf-8"))
    dense = checkpoint(options.out / "models" / "dense", dense_model(described))
    candidates = [
        checkpoint(options.out / "models" / name, compact_model(described, shape))
        for name, shape in described["shapes"].items()
    ]
    results = [measured(options, [dense, *candidates], run) for run in runs(runtimes)]
    write_text(options.out / "shapes.md", table(results))
    print(table(results))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of samples, models and shapes.md")
    parser.add_argument("--runtime", action="append", choices=sorted(DTYPES), help="default: those of this GPU")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seq", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--warmup-seconds", type=float, default=1.0)
    return parser.parse_args(arguments)


def runs(runtimes: list[str]) -> Iterator[tuple[str, str]]:
    """Every runtime with each of its precisions."""
    return ((runtime, dtype) for runtime in runtimes for dtype in DTYPES[runtime])


def dense_model(described: dict[str, Any]) -> PreTrainedModel:
    """BERT of the layers, widths and head size that the shapes were cut from, BERT-base by default."""
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**described.get("config", {})))


def compact_model(described: dict[str, Any], shape: dict[str, Any]) -> PreTrainedModel:
    """The same with the heads and neurons of one shape."""
    torch.manual_seed(0)
    dense = BertConfig(**described.get("config", {})).to_dict()
    kept = {name: value for name, value in dense.items() if name not in ("model_type", "transformers_version")}
    sizes = {"layer_num_heads": shape["heads"], "layer_intermediate_sizes": shape["ffn"]}
    config = CompactBertConfig(**(kept | sizes | {"num_hidden_layers": len(shape["heads"])}))
    return HEAD_CLASSES["sequence-classification"](config)


def checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """Weights, configuration and a tokenizer of numbered words, because a checkpoint has one; inputs are random ids."""
    if not (folder / "config.json").is_file():
        words = [*SPECIAL_TOKENS, *(f"word{index}" for index in range(len(SPECIAL_TOKENS), model.config.vocab_size))]
        vocabulary = Tokenizer(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
        special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), words, strict=False))
        save_checkpoint(model, PreTrainedTokenizerFast(tokenizer_object=vocabulary, **special), folder)
    return folder


def measured(options: argparse.Namespace, models: list[Path], run: tuple[str, str]) -> BenchResult:
    """All shapes in one runtime and precision, interleaved: what the samples file lacks, measured and added."""
    runtime, dtype = run
    file = options.out / f"{runtime}-{dtype}.json"
    settings = BenchSettings(
        runtimes=(runtime,),
        batches=tuple(options.batch),
        seqs=tuple(options.seq),
        blocks=options.blocks,
        calls=options.calls,
        warmup_seconds=options.warmup_seconds,
        headline_clock="wall" if runtime.endswith("cpu") else GPU_CLOCK,
        dtype=dtype,
    )
    previous = read_samples(file) if file.exists() else None
    return measure(
        name_models(models),
        settings,
        {},
        previous=previous,
        progress=lambda done, total, what: print(f"{file.stem}: {done}/{total} {what}", file=sys.stderr),
        keep=partial(write_samples, file),
    )


def table(results: list[BenchResult]) -> str:
    """Every cell of every result, as Markdown."""
    lines = [
        "# Pruned shapes against dense BERT-base, random weights",
        "",
        "Speedup: dense over candidate on the clock named, 95 % interval. Launch-bound: the host takes over 0.8 of the "
        "GPU's time to queue the dense model, so the host is measured.",
        "",
        "| shape | runtime | dtype | clock | batch | sequence | dense, ms | candidate, ms | speedup | variants | |",
        "|---|---|---|---|---:|---:|---:|---:|---|---|---|",
        *(row(result, cell, key) for result in results for key in result.candidates for cell in result.cells),
    ]
    return "\n".join([*lines, ""])


def row(result: BenchResult, cell: Cell, model: BenchModel) -> str:
    """One shape in one cell: medians, ratio, the variants that were fastest, and whether the host was the limit."""
    clock = result.settings.headline_clock
    dense, candidate = (cell.latency(name, clock).p50_ms for name in ("baseline", model.key))
    ratio = result.comparison(cell, model.key).ratio
    variants = " / ".join(fastest(cell, name) for name in ("baseline", model.key))
    bound = GPU_CLOCK in cell.clocks and is_launch_bound(
        *(cell.latency("baseline", name).p50_ms for name in (GPU_CLOCK, ENQUEUE_CLOCK))
    )
    return (
        f"| {model.label} | {cell.runtime} | {cell.dtypes['baseline']} | {clock} | {cell.batch} | "
        f"{cell.seq} | {dense:.3f} | {candidate:.3f} | {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) | "
        f"{variants} | {'launch-bound' if bound else ''} |"
    )


def fastest(cell: Cell, key: str) -> str:
    """The variant with the least time, and the times of all."""
    by_shape = cell.repetitions[0].telemetry.get("variants_ms", {}).get(key, {})
    times = next(iter(by_shape.values()), {})
    return ", ".join(f"{name} {ms:.3f}" for name, ms in sorted(times.items(), key=lambda item: item[1])) or "one"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"shapes.py: {error}") from error
