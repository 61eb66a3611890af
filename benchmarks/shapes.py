"""Pruned BERT-base shapes with random weights against dense BERT-base on a GPU, runtime by runtime, dtype by dtype.

python benchmarks/shapes.py shapes.json --out gpu-results

The shapes file maps names to ``heads`` and ``ffn`` lists: {"hidden_size", "head_dim", "shapes": {name: {...}}}.
Run again after an interruption: finished blocks are kept. On torch-cuda each side is the fastest of eager, compiled
and CUDA-graphed, all of them recorded; the fixed grid is batch 1, 8, 32, 128 at sequence 128 and 384.

With --table nothing is measured: the table is written again from the samples files of an earlier run. With --published
CSV (columns of `bench.frontier.PUBLISHED_COLUMNS` and ``speed_measured_on``) it has the published speedups beside ours:
a shape's published row is the one with the metric value that the shapes file gives it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from bench.frontier import PUBLISHED_COLUMNS, csv_rows
from bench.result import BenchModel, BenchResult, BenchSettings
from bench.runners.registry import RUNNERS
from bench.samples_file import read_samples, write_samples
from bench.statistics import RatioInterval
from bench.telemetry.recorded import hardware_records
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
    described = json.loads(options.shapes.read_text(encoding="utf-8"))
    published = None if options.published is None else published_speedups(options.published, described)
    results = finished(options) if options.table else measured_results(options, described)
    text = table(results, options.clock, published)
    write_text(options.out / "shapes.md", text)
    print(text)


def measured_results(options: argparse.Namespace, described: dict[str, Any]) -> list[BenchResult]:
    """One result per runtime and precision, all shapes in each."""
    runtimes = options.runtime or [name for name in ("torch-cuda", "ort-cuda") if RUNNERS[name].missing() is None]
    if not runtimes:
        raise SystemExit(f"no GPU runtime: {RUNNERS['torch-cuda'].missing()}")
    dense = checkpoint(options.out / "models" / "dense", dense_model(described))
    candidates = [
        checkpoint(options.out / "models" / name, compact_model(described, shape))
        for name, shape in described["shapes"].items()
    ]
    return [measured(options, [dense, *candidates], run) for run in runs(runtimes)]


def finished(options: argparse.Namespace) -> list[BenchResult]:
    """What earlier runs left in the folder, of the runtimes asked for.

    Raises:
        InputError: if there is nothing.
    """
    runtimes = options.runtime or list(DTYPES)
    files = [options.out / samples_name(run) for run in runs(runtimes)]
    found = [read_samples(file) for file in files if file.is_file()]
    if not found:
        raise InputError(f"{options.out} holds no samples of {', '.join(runtimes)}. Measure first, without --table.")
    return found


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
    parser.add_argument("--table", action="store_true", help="measure nothing, write the table again")
    parser.add_argument("--clock", help="of the table; default: gpu on a GPU, else wall")
    parser.add_argument("--published", type=Path, help="CSV of published speedups to stand beside ours")
    return parser.parse_args(arguments)


def runs(runtimes: list[str]) -> Iterator[tuple[str, str]]:
    """Every runtime with each of its precisions."""
    return ((runtime, dtype) for runtime in runtimes for dtype in DTYPES[runtime])


def samples_name(run: tuple[str, str]) -> str:
    """File of a runtime and precision."""
    return f"{'-'.join(run)}.json"


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
    file = options.out / samples_name(run)
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


@dataclass(frozen=True)
class Published:
    """Speedups as others published them, by shape, and where those were measured."""

    speedups: Mapping[str, str]
    measured_on: tuple[str, ...]


def published_speedups(file: Path, described: Mapping[str, Any]) -> Published:
    """The rows of the CSV whose metric has the value that the shapes file gives a shape.

    Raises:
        InputError: if the file cannot be read or lacks a column.
    """
    found = {
        (row["metric"].casefold(), float(row["value"])): row
        for row in reversed(csv_rows(file, (*PUBLISHED_COLUMNS, "speed_measured_on")))
        if row["value"] and row["speedup"]
    }
    rows = {
        name: row
        for name, shape in described["shapes"].items()
        for metric in ("f1", "accuracy")
        if metric in shape and (row := found.get((metric, float(shape[metric]))))
    }
    places = dict.fromkeys(row["speed_measured_on"] for row in rows.values())
    return Published({name: row["speedup"] for name, row in rows.items()}, tuple(places))


def table(results: list[BenchResult], clock: str | None, published: Published | None) -> str:
    """Every cell of every result, as Markdown; cells with fewer than two blocks cannot say anything yet."""
    columns = [column for column in COLUMNS if column.shown(results, published)]
    lines = [
        "# Pruned shapes against dense BERT-base, random weights",
        "",
        "Speedup: dense over pruned on the clock named, 95 % interval. Ideal: how many times fewer encoder FLOPs. "
        "Share: of the ideal. Launch-bound: the host takes over 0.8 of the GPU's time to queue the dense model, so the "
        "host is measured.",
        "",
        *([remark(published), ""] if published else []),
        f"| {' | '.join(column.name for column in columns)} |",
        f"|{'|'.join(column.alignment for column in columns)}|",
        *(
            f"| {' | '.join(column.text(Entry(result, cell, model, clock, published)) for column in columns)} |"
            for result in results
            for model in result.candidates
            for cell in result.cells
            if cell.repetitions[0].blocks > 1
        ),
        "",
        *(machine_text(result) for result in results),
    ]
    return "\n".join([*lines, ""])


def remark(published: Published) -> str:
    """What the published figures are, so that nobody compares them with ours."""
    return (
        f"Published: as their authors measured them, throughput at batch 128 ({'; '.join(published.measured_on)}), "
        "another GPU, another batch and another clock than ours. They stand here to show the order of the shapes, not "
        "to be compared in size; a shape without a published speedup has none."
    )


def machine_text(result: BenchResult) -> str:
    """Where and how a result was measured."""
    machine, settings = result.environment, result.settings
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    gpus = dict.fromkeys(
        record.gpu.gpu for cell in result.cells for record in hardware_records(cell) if record.gpu is not None
    )
    return (
        f"- {', '.join(settings.runtimes)} {settings.dtype or ''}: {', '.join([*gpus, machine.cpu])}, "
        f"{machine.cores} cores, {settings.threads} thread, {settings.blocks} blocks of {settings.calls} calls, "
        f"{result.inputs}; {versions}; other programs kept {result.other_load:.1f} cores busy."
    )


@dataclass(frozen=True)
class Entry:
    """One shape in one cell."""

    result: BenchResult
    cell: Cell
    model: BenchModel
    asked_clock: str | None
    published: Published | None

    @property
    def clock(self) -> str:
        """The clock asked for, else the headline's."""
        return self.asked_clock or self.result.settings.headline_clock

    def ms(self, key: str) -> str:
        """Median."""
        return f"{self.cell.latency(key, self.clock).p50_ms:.3f}"

    @property
    def ratio(self) -> RatioInterval:
        """Dense over pruned."""
        return self.cell.comparison(self.model.key, self.clock, seed=self.result.settings.seed).ratio

    @property
    def ideal(self) -> float | None:
        """How many times fewer FLOPs."""
        return self.result.ideal(self.cell, self.model.key)

    @property
    def launch_bound(self) -> bool:
        """Whether the host is the limit."""
        return GPU_CLOCK in self.cell.clocks and is_launch_bound(
            *(self.cell.latency("baseline", name).p50_ms for name in (GPU_CLOCK, ENQUEUE_CLOCK))
        )


@dataclass(frozen=True)
class Column:
    """A column of the table, and when it is shown."""

    name: str
    text: Callable[[Entry], str]
    alignment: str = "---:"
    shown: Callable[[list[BenchResult], Published | None], bool] = lambda results, published: True


def on_gpu(results: list[BenchResult], published: Published | None) -> bool:
    """Whether any cell was measured on a GPU."""
    return any(GPU_CLOCK in cell.clocks for result in results for cell in result.cells)


COLUMNS = (
    Column("shape", lambda x: x.model.label, "---"),
    Column("runtime", lambda x: x.cell.runtime, "---"),
    Column("dtype", lambda x: x.cell.dtypes["baseline"], "---"),
    Column("clock", lambda x: x.clock, "---"),
    Column("batch", lambda x: str(x.cell.batch)),
    Column("sequence", lambda x: str(x.cell.seq)),
    Column("dense, ms", lambda x: x.ms("baseline")),
    Column("pruned, ms", lambda x: x.ms(x.model.key)),
    Column("speedup", lambda x: f"{x.ratio.value:.2f} ({x.ratio.low:.2f} to {x.ratio.high:.2f})"),
    Column("ideal", lambda x: f"{x.ideal:.2f}" if x.ideal else "-"),
    Column("share", lambda x: f"{x.ratio.value / x.ideal:.2f}" if x.ideal else "-"),
    Column(
        "published",
        lambda x: x.published.speedups.get(x.model.label, "-") if x.published else "",
        shown=lambda results, published: published is not None,
    ),
    Column("variants", lambda x: " / ".join(fastest(x.cell, key) for key in ("baseline", x.model.key)), "---", on_gpu),
    Column("", lambda x: "launch-bound" if x.launch_bound else "", "---", on_gpu),
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
