"""Every way from PyTorch to ONNX that we know, side by side: size, operators, error and latency on the CPU.

python benchmarks/exporters.py --model minilm=DENSE --model pruned=COMPACT --shapes shapes.json --data TEXTS \
    --optimum PYTHON --out docs/results/exporters

``--shapes`` builds BERT-base encoders with random weights from the heads and FFN sizes of a JSON file ("shapes": name
to {"heads": [...], "ffn": [...]}). ``--optimum`` is the interpreter of an environment with optimum, for its O2 export
of dense models. Each model is compared with the dense model of its family: its own candidates, interleaved, in one run.
Finished models are read again, so a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import onnx_ir as ir
import torch
from onnxscript.rewriter.ort_fusions import optimize_for_ort
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as hf_logging

from bench.cell import BASELINE, Cell
from bench.compare import measure
from bench.contestants import name_models
from bench.environment import environment_from_machine
from bench.result import BenchResult, BenchSettings
from bench.statistics import RatioInterval
from exporter.describe import describe_onnx
from exporter.int8.chosen import Int8Texts, chosen_int8_from_onnx
from exporter.int8.options import Int8Options
from exporter.int8.qdq import activation_ranges, qdq_from_onnx
from exporter.openvino_session import compiled_from_onnx, predict_from_compiled
from exporter.options import Dialect, GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import check_parity, parity_batches
from exporter.to_onnx import finite_masking, onnx_from_model
from pruning.arch import ArchSpec
from pruning.atomic import write_text
from pruning.batching import Batch, bucketed_batches, encode, predict_from_model
from pruning.checkpoint import load_checkpoint, load_tokenizer, read_config, save_checkpoint
from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import arch_from_model
from pruning.tasks.source import DataSource, load_evaluation

SEQS = (32, 128)
EFFORT = ((1, 8), (8, 3))
"""Batch size and blocks: calls at batch 8 are long and steady."""
OPTIMUM_O2 = """
import sys
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig
model = ORTModelForSequenceClassification.from_pretrained(sys.argv[1], export=True)
ORTOptimizer.from_pretrained(model).optimize(
    save_dir=sys.argv[2], optimization_config=AutoOptimizationConfig.O2(), file_suffix=""
)
"""


@dataclass(frozen=True)
class Subject:
    """A checkpoint to export, and the dense checkpoint of its family, which may be itself."""

    name: str
    path: Path
    dense: Path

    @property
    def is_dense(self) -> bool:
        """Whether it is the family's dense model."""
        return self.path == self.dense

    def models(self) -> tuple[PreTrainedModel, PreTrainedModel]:
        """The model and its family's dense one, each read once."""
        model = load_checkpoint(self.path).model
        return model, model if self.is_dense else load_checkpoint(self.dense).model


@dataclass(frozen=True)
class Variant:
    """One ONNX file and the runtime that is to run it."""

    name: str
    file: Path
    runtime: str
    seconds: float | None


def main() -> None:
    """Export, check and time every subject; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="the first is the dense one")
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--only", nargs="*", help="shapes to take; default: all")
    parser.add_argument("--data", required=True, help="texts for int8 and for the inputs")
    parser.add_argument("--optimum", type=Path, help="interpreter of an environment with optimum")
    parser.add_argument("--note", default="", help="a sentence for the table: where the models come from")
    parser.add_argument("--scratch", type=Path, default=Path("exporters-scratch"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    tokenizer = tokenizer_of(Path(options.model[0].split("=", 1)[1]))
    texts = load_evaluation(DataSource(options.data)).sample(64, seed=0).texts
    batches = [item.batch for item in bucketed_batches(encode(tokenizer, texts), 32)]
    for subject in subjects(options, tokenizer):
        facts = options.out / f"{subject.name}.json"
        if not facts.is_file():
            print(f"{subject.name} ...", file=sys.stderr, flush=True)
            write_text(facts, json.dumps(examine(subject, batches, options)) + "\n")
    write_text(options.out.with_suffix(".md"), report(options))


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, without its weights."""
    return load_tokenizer(folder, read_config(folder)["vocab_size"])


def subjects(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> Iterator[Subject]:
    """The models that were named, then those of the shapes file."""
    named = [entry.split("=", 1) for entry in options.model]
    for name, path in named:
        yield Subject(name, Path(path), Path(named[0][1]))
    if options.shapes is None:
        return
    shapes = json.loads(options.shapes.read_text(encoding="utf-8"))
    arch = ArchSpec.from_lists(shapes["hidden_size"], shapes["head_dim"], [12] * 12, [3072] * 12)
    dense = random_checkpoint(options.scratch / "bert-base", arch, tokenizer)
    yield Subject("bert-base", dense, dense)
    for name, shape in shapes["shapes"].items():
        if not options.only or name in options.only:
            arch = ArchSpec.from_lists(shapes["hidden_size"], shapes["head_dim"], shape["heads"], shape["ffn"])
            yield Subject(name, random_checkpoint(options.scratch / name, arch, tokenizer), dense)


def random_checkpoint(folder: Path, arch: ArchSpec, tokenizer: PreTrainedTokenizerBase) -> Path:
    """A BERT-base classifier of this shape with random weights."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        sizes = {"vocab_size": 30522, "hidden_size": arch.hidden, "num_hidden_layers": len(arch.layers)}
        heads, ffn = [x.heads for x in arch.layers], [x.ffn for x in arch.layers]
        if len({*heads}) == len({*ffn}) == 1:
            dense = BertConfig(**sizes, num_attention_heads=heads[0], intermediate_size=ffn[0])
            save_checkpoint(BertForSequenceClassification(dense), tokenizer, folder)
        else:
            config = CompactBertConfig(
                **sizes, layer_num_heads=heads, layer_intermediate_sizes=ffn, head_dim=arch.head_dim
            )
            save_checkpoint(HEAD_CLASSES["sequence-classification"](config), tokenizer, folder)
    return folder


def examine(subject: Subject, batches: Sequence[Batch], options: argparse.Namespace) -> dict[str, object]:
    """Everything about one subject, as plain data."""
    folder = options.scratch / f"{subject.name}-files"
    folder.mkdir(parents=True, exist_ok=True)
    model, dense_model = subject.models()
    variants = list(exported(subject, model, batches, folder, options))
    rows = [description(variant, model) for variant in variants]
    dense = folder / "dense.onnx"
    onnx_from_model(dense_model, dense, options=GraphOptions(dialect=Dialect.ORT_CPU))
    result = timed(dense, variants)
    ratio = {
        str(seq): arch_from_model(dense_model).encoder_flops(seq, first_token=True)
        / arch_from_model(model).encoder_flops(seq, first_token=True)
        for seq in SEQS
    }
    for file in folder.rglob("*.onnx*"):
        file.unlink()
    return {"name": subject.name, "ideal": ratio, "rows": rows, "bench": [without_readings(part) for part in result]}


def without_readings(result: BenchResult) -> dict[str, object]:
    """The samples without the readings of the CPU's clock, which would be most of the file."""
    cells = [
        replace(cell, repetitions=tuple(replace(x, telemetry={}) for x in cell.repetitions)) for cell in result.cells
    ]
    return replace(result, cells=tuple(cells)).to_dict()


def exported(
    subject: Subject, model: PreTrainedModel, batches: Sequence[Batch], folder: Path, options: argparse.Namespace
) -> Iterator[Variant]:
    """Our graphs, PyTorch's own, what optimisers make of it, and optimum's."""
    contrib, portable = GraphOptions(dialect=Dialect.ORT_CPU), GraphOptions()
    for name, graph in (
        ("ours, standard", portable),
        ("ours, standard, all tokens", replace(portable, first_token=False)),
        ("ours, contrib", contrib),
        ("ours, contrib, all tokens", replace(contrib, first_token=False)),
    ):
        export = onnx_from_model(model, folder / f"{name.replace(', ', '-').replace(' ', '-')}.onnx", options=graph)
        yield Variant(name, export.path, "ort-cpu", export.seconds)
    standard = folder / "ours-standard.onnx"
    start = perf_counter()
    texts = Int8Texts(choice=batches[::2], check=batches[1::2])
    reference, contrib_file = predict_from_model(model), folder / "ours-contrib.onnx"
    int8 = chosen_int8_from_onnx(contrib_file, folder / "int8.onnx", Int8Options(), texts, reference)
    yield Variant("ours, contrib, int8", int8.path, "ort-cpu", perf_counter() - start)
    start = perf_counter()
    dynamo = traced(model, folder / "dynamo.onnx")
    yield Variant("torch.onnx.export", dynamo, "ort-cpu", perf_counter() - start)
    start = perf_counter()
    fused = onnxscript_fused(dynamo, folder / "dynamo-fused.onnx")
    yield Variant("torch.onnx.export + optimize_for_ort", fused, "ort-cpu", perf_counter() - start)
    if subject.is_dense and options.optimum is not None:
        start = perf_counter()
        subprocess.run([options.optimum, "-c", OPTIMUM_O2, subject.path, folder / "o2"], check=True)
        yield Variant("optimum O2", folder / "o2" / "model.onnx", "ort-cpu", perf_counter() - start)
    yield Variant("ours, standard, in OpenVINO", standard, "openvino", None)
    yield Variant("torch.onnx.export, in OpenVINO", dynamo, "openvino", None)
    qdq = qdq_from_onnx(standard, folder / "qdq.onnx", activation_ranges(standard, batches)).path
    yield Variant("ours, Q/DQ int8, in OpenVINO", qdq, "openvino", None)


def traced(model: PreTrainedModel, path: Path) -> Path:
    """PyTorch's own export, for any batch and length."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    sizes = {0: torch.export.Dim("batch", min=1, max=512), 1: torch.export.Dim("sequence", min=2, max=512)}
    torch.onnx.export(
        model,
        kwargs=example,
        f=path,
        dynamo=True,
        input_names=list(names),
        output_names=["logits"],
        dynamic_shapes=dict.fromkeys(names, sizes),
        external_data=False,
        verbose=False,
    )
    return path


def onnxscript_fused(source: Path, target: Path) -> Path:
    """What onnxscript's fusions for ONNX Runtime make of a graph."""
    fused, _ = optimize_for_ort(ir.load(source))
    ir.save(fused, target)
    return target


def description(variant: Variant, model: PreTrainedModel) -> dict[str, object]:
    """Bytes, nodes, fused attention and the largest error over every kind of padding."""
    found = describe_onnx(variant.file)
    config = model.config
    cases = parity_batches(config.vocab_size, config.max_position_embeddings, 0)
    cases = {name: batch for name, batch in cases.items() if name in ("right padding", "left padding", "holes")}
    if variant.runtime == "openvino":
        predict = predict_from_compiled(compiled_from_onnx(variant.file), variant.file)
    else:
        predict = predict_from_session(session_from_onnx(variant.file))
    with finite_masking(model):
        parity = check_parity(predict_from_model(model), predict, cases, artifact=variant.name, tolerance=math.inf)
    return {
        "name": variant.name,
        "runtime": variant.runtime,
        "export_seconds": variant.seconds,
        "bytes": found.bytes,
        "nodes": sum(found.nodes.values()),
        "fused": found.fused_attention,
        "max_abs_diff": max(case.max_abs_diff for case in parity),
    }


def timed(dense: Path, variants: Sequence[Variant]) -> list[BenchResult]:
    """The dense model's contrib graph against all variants, interleaved; one result per batch size."""
    paths = [dense, *(variant.file for variant in variants)]
    labels = ["dense, ours, contrib", *(variant.name for variant in variants)]
    runtimes = [None, *(None if variant.runtime == "ort-cpu" else variant.runtime for variant in variants)]
    models = name_models(paths, labels, runtimes)
    results = []
    for batch, blocks in EFFORT:
        settings = BenchSettings(
            batches=(batch,), seqs=SEQS, blocks=blocks, calls=2, warmup_seconds=0.5, mixed_precision=True
        )
        results.append(measure(models, settings, {}, progress=tell))
    return results


def tell(done: int, total: int, what: str) -> None:
    """Progress on the terminal."""
    print(f"  {done}/{total} {what}", file=sys.stderr, flush=True)


def report(options: argparse.Namespace) -> str:
    """All finished subjects as Markdown."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(options.out.glob("*.json"))]
    machine = environment_from_machine()
    lines = [
        "# Ways from PyTorch to ONNX on a CPU",
        "",
        f"{machine.cpu}, {machine.cores} cores; one thread, wall clock, other programs on the other core. "
        + ", ".join(f"{name} {version}" for name, version in machine.versions.items())
        + ".",
        "",
        f"Command: `python benchmarks/exporters.py {shlex.join(sys.argv[1:])}`",
        "",
        "Latency is the median in ms; in brackets the speedup over the dense model of the family (our contrib graph, "
        "same run) and its 95 % interval. The error is the largest difference of a logit from PyTorch's over right "
        "padding, left padding and holes; Q/DQ is shown whatever its error. " + options.note,
        "",
        *summary(found),
    ]
    for facts in found:
        lines += ["", f"## {facts['name']}", "", ideal_line(facts["ideal"]), "", *table(facts)]
    return "\n".join(lines) + "\n"


SUMMARY = (
    "| model | share of the ideal, batch 1, sequence 128 | batch 8, sequence 128 | ours beside the best other in ONNX "
    "Runtime | in OpenVINO | int8 over dense fp32, batch 1, sequence 128 |"
)
OURS = {"ort-cpu": ("ours, standard", "ours, contrib"), "openvino": ("ours, standard, in OpenVINO",)}
OTHERS = {
    "ort-cpu": ("torch.onnx.export", "torch.onnx.export + optimize_for_ort", "optimum O2"),
    "openvino": ("torch.onnx.export, in OpenVINO",),
}


def summary(found: Sequence[Mapping[str, object]]) -> list[str]:
    """What the tables say: how near the ideal our fp32 graph comes, and how it stands beside the best other graph."""
    rows, slower, cells = [], 0, 0
    for facts in found:
        measured = Measured(facts)
        shares = [f"{measured.share(batch):.0%}" for batch in (1, 8)]
        against = [measured.against_others(runtime) for runtime in OURS]
        slower += sum(ratio.high < 1 for ratios in against for ratio in ratios)
        cells += sum(len(ratios) for ratios in against)
        spread = [f"{min(x.value for x in ratios):.2f}x to {max(x.value for x in ratios):.2f}x" for ratios in against]
        int8 = measured.speedup("ours, contrib, int8", 1, 128)
        rows.append(f"| {facts['name']} | " + " | ".join([*shares, *spread, str(int8)]) + " |")
    return [
        "## In short",
        "",
        SUMMARY,
        "|---" * 6 + "|",
        *rows,
        "",
        "Ours is what `slimbert run` ships, the faster of standard and contrib; the best other export is the fastest "
        "of its cell; ratios are paired, the smallest and largest of the four cells. In "
        f"{slower} of {cells} cells another export is faster beyond the 95 % interval.",
    ]


class Measured:
    """One subject's results, by the names of the exports."""

    def __init__(self, facts: Mapping[str, object]) -> None:
        self.results = [BenchResult.from_dict(part) for part in facts["bench"]]  # type: ignore[attr-defined]
        self.keys = {row["name"]: f"candidate-{i + 1}" for i, row in enumerate(facts["rows"])}  # type: ignore[arg-type]
        self.ideal: Mapping[str, float] = facts["ideal"]  # type: ignore[assignment]

    @property
    def cells(self) -> list[tuple[BenchResult, Cell]]:
        """Every cell with the result that it is of."""
        return [(result, cell) for result in self.results for cell in result.cells]

    def speedup(self, name: str, batch: int, seq: int) -> RatioInterval:
        """Over the family's dense model."""
        result, cell = next(x for x in self.cells if (x[1].batch, x[1].seq) == (batch, seq))
        return result.comparison(cell, self.keys[name]).ratio

    def share(self, batch: int, seq: int = 128) -> float:
        """Of the ideal speedup, in fp32."""
        return max(self.speedup(name, batch, seq).value for name in OURS["ort-cpu"]) / self.ideal[str(seq)]

    def against_others(self, runtime: str) -> list[RatioInterval]:
        """In each cell, how many times faster ours is than the fastest other export."""
        ratios = []
        for result, cell in self.cells:
            ours, other = (
                min((self.keys[x] for x in names if x in self.keys), key=lambda key: result.latency(cell, key).p50_ms)
                for names in (OURS[runtime], OTHERS[runtime])
            )
            clock, seed = result.settings.headline_clock, result.settings.seed
            ratios.append(cell.comparison(ours, clock, seed=seed, against=other).ratio)
        return ratios


def ideal_line(ideal: Mapping[str, float]) -> str:
    """The speedup that FLOPs alone would give."""
    ratios = ", ".join(f"{ratio:.2f}x at sequence {seq}" for seq, ratio in ideal.items())
    return f"Ideal (FLOP ratio of the encoders): {ratios}."


def table(facts: Mapping[str, object]) -> list[str]:
    """One row per variant."""
    results = [BenchResult.from_dict(part) for part in facts["bench"]]  # type: ignore[attr-defined]
    cells = [(result, cell) for result in results for cell in result.cells]
    heads = [f"batch {cell.batch}, sequence {cell.seq}" for _, cell in cells]
    lines = [
        "| export | export s | MB | nodes | fused | error | " + " | ".join(heads) + " |",
        "|---" * 6 + "|---" * len(cells) + "|",
    ]
    dense = {"name": "dense, ours, contrib", "bytes": None, "key": BASELINE}
    keys = [(dense, BASELINE), *((row, f"candidate-{i + 1}") for i, row in enumerate(facts["rows"]))]  # type: ignore[arg-type]
    for row, key in keys:
        shown = [str(row["name"]), *described(row)]
        shown += [timing(result, cell, key) for result, cell in cells]
        lines.append("| " + " | ".join(shown) + " |")
    return lines


def described(row: Mapping[str, object]) -> list[str]:
    """Seconds, megabytes, nodes, fused layers and error; nothing for the dense model, which has a table of its own."""
    if row["bytes"] is None:
        return ["", "", "", "", ""]
    seconds = "" if row["export_seconds"] is None else f"{row['export_seconds']:.1f}"
    return [
        seconds, f"{row['bytes'] / 1e6:.1f}", str(row["nodes"]), str(row["fused"]), f"{row['max_abs_diff']:.1e}"
    ]  # type: ignore[operator]  # fmt: skip


def timing(result: BenchResult, cell: object, key: str) -> str:
    """Median, and the speedup over the dense model."""
    latency = result.latency(cell, key).p50_ms  # type: ignore[arg-type]
    if key == BASELINE:
        return f"{latency:.1f}"
    return f"{latency:.1f} ({result.comparison(cell, key).ratio})"  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
