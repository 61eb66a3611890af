"""What NoNorm and ReLU gain over LayerNorm and GELU, runtime by runtime: the shape of MODEL with random weights.

python benchmarks/faster_blocks.py MODEL --out blocks

Accuracy is no question here: the weights are random, and only time is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import torch
from transformers import PreTrainedModel

from bench.compare import measure
from bench.contestants import name_models
from bench.report.bench_report import markdown_from_result
from bench.result import BenchResult, BenchSettings
from bench.samples_file import write_samples
from exporter.int8.rewrite import FULL_LIMIT, dynamic_int8_graph
from exporter.int8.source import weight_products
from exporter.options import Dialect, GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.atomic import write_text
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.compaction import compact_from_masked
from pruning.config import LAYER_NORM, NO_NORM, CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import head_from_model

VARIANTS = {
    "layer-norm-gelu": (LAYER_NORM, "gelu"),
    "no-norm": (NO_NORM, "gelu"),
    "relu": (LAYER_NORM, "relu"),
    "no-norm-relu": (NO_NORM, "relu"),
}
"""The first one is the baseline."""


def main() -> None:
    """Write the four models, measure them, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint whose shape and tokenizer are taken")
    parser.add_argument("--out", type=Path, required=True, help="folder of models, samples and faster-blocks.md")
    parser.add_argument("--runtime", nargs="+", default=["ort-cpu", "openvino", "torch-cpu"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=10)
    options = parser.parse_args()
    folders = [written(options.model, name, options.out) for name in VARIANTS]
    files = [quantised(folder) for folder in folders]
    results = {
        "fp32": timed(options, folders, tuple(options.runtime)),
        "int8, dynamic": timed(options, files, ("ort-cpu",)),
    }
    for name, result in results.items():
        write_samples(options.out / f"{name.partition(',')[0]}.json", result)
    text = "\n".join(f"## {name}\n\n{markdown_from_result(result)}" for name, result in results.items())
    write_text(options.out / "faster-blocks.md", f"# NoNorm and ReLU\n\n{text}")
    print(text)


def written(model: str, name: str, out: Path) -> Path:
    """A checkpoint of one variant, weights from seed 0."""
    source = load_checkpoint(model)
    fields = compact_from_masked(source.model).config.to_dict()
    fields |= dict(zip(("norm_type", "hidden_act"), VARIANTS[name], strict=True))
    torch.manual_seed(0)
    variant: PreTrainedModel = HEAD_CLASSES[head_from_model(source.model)](CompactBertConfig(**fields)).eval()
    save_checkpoint(variant, source.tokenizer, out / name)
    return out / name


def quantised(folder: Path) -> Path:
    """The int8 file of a checkpoint, for ONNX Runtime; unchecked, because random weights have no answers to keep."""
    model, source = load_checkpoint(folder).model, folder / "fp32.onnx"
    onnx_from_model(model, source, options=GraphOptions(dialect=Dialect.ORT_CPU))
    graph = onnx.load(source)
    target = folder / f"{folder.name}.onnx"
    onnx.save(dynamic_int8_graph(graph, weight_products(graph), limit=FULL_LIMIT, embeddings=False), target)
    return target


def timed(options: argparse.Namespace, models: list[Path], runtimes: tuple[str, ...]) -> BenchResult:
    """All four, interleaved, on the thread's clock."""
    settings = BenchSettings(
        runtimes=runtimes,
        batches=(options.batch,),
        seqs=(options.seq,),
        blocks=options.blocks,
        warmup_seconds=0.5,
        headline_clock="thread",
    )
    return measure(name_models(models), settings, {})


if __name__ == "__main__":
    main()
