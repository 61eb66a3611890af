"""What the stages of a run share: the request, the dense model, the data, and where things go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.inputs import input_batches
from bench.result import BenchSettings
from bench.runners.base import Precision
from bench.runners.ort_cpu import OrtCpuRunner
from exporter.deploy import INT8_FILE, ONNX_FILE
from exporter.int8.chosen import Int8Texts
from exporter.options import Dialect, GraphOptions
from exporter.text_cases import text_batches
from pruning.arch import ArchSpec
from pruning.batching import Batch, Encodings, Predict, encode, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.introspect import arch_from_model
from pruning.tasks.reading import rows_as_read
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, Task, settings_from_config
from pruning.tasks.text_data import TextData
from tools.console import Steps
from tools.run_folder import RunFolder
from tools.settings import BenchGrid, RunSettings

BENCH_TEXTS = 2000
PARITY_TEXTS = 128
CHOICE_TEXTS = 128
"""Training texts that choose what int8 leaves in fp32; others than those it is checked on."""
DEPLOYED_GRAPH, INT8_GRAPH = (f"deploy/{file.as_posix()}" for file in (ONNX_FILE, INT8_FILE))

Facts = dict[str, Any]


@dataclass
class Workspace:
    """What the stages share: the request, the dense model and the data (read once), and where things go.

    ``target`` is None where it is counted in time that is yet to be measured, or is the largest loss of accuracy, for
    which ``choice`` holds the rows that choose the model.
    """

    settings: RunSettings
    folder: RunFolder
    dense: Checkpoint
    splits: Splits
    calibration: Calibration
    target: Budget | ArchSpec | None
    first_token: bool
    steps: Steps
    choice: TextData | None = None

    @property
    def task(self) -> Task:
        """The task."""
        return task_named(self.settings.task)

    @property
    def dense_arch(self) -> ArchSpec:
        """Architecture of the dense model."""
        return arch_from_model(self.dense.model)

    @cached_property
    def compact(self) -> Checkpoint:
        """The pruned checkpoint, read back from disk."""
        return load_checkpoint(self.folder.compact)

    @cached_property
    def parity_texts(self) -> Encodings:
        """Token ids of the first evaluation texts."""
        return self.encoded(self.splits.evaluation.subset(range(min(PARITY_TEXTS, len(self.splits.evaluation)))))

    @cached_property
    def int8_texts(self) -> Int8Texts:
        """What chooses the products of int8 graphs, and what they are checked on."""
        choice = self.encoded(self.splits.train.sample(CHOICE_TEXTS, self.settings.seed))
        return Int8Texts(*(list(text_batches(part).values()) for part in (choice, self.parity_texts)))

    @property
    def headline_graph(self) -> str:
        """The deployed file that the headline is about; fp32 if the one that was asked for is not shipped."""
        in_int8 = self.settings.headline_dtype == Precision.INT8
        return INT8_GRAPH if in_int8 and INT8_GRAPH in self.shipped_graphs else DEPLOYED_GRAPH

    @property
    def shipped_graphs(self) -> list[str]:
        """ONNX files that are deployed, relative to the run folder, fp32 first."""
        failed = {facts["artifact"] for facts in self.facts("parity")["not_shipped"]}
        names = [facts["path"] for facts in self.facts("export")["artifacts"]]
        return [name for name in names if name.endswith(".onnx") and name not in failed]

    def facts(self, stage: str) -> Facts:
        """What an earlier stage found."""
        facts = self.folder.facts(stage)
        assert facts is not None, f"stage {stage} is not finished"
        return facts

    def encoded(self, rows: TextData) -> Encodings:
        """Rows as token ids, cut as the run asks for."""
        read = rows_as_read(self.dense.model, rows)
        return encode(self.dense.tokenizer, read.texts, read.pairs, max_length=self.settings.max_length)

    def bench_inputs(self, batch: int, seq: int) -> list[Batch]:
        """Real token ids in batches of exactly this shape."""
        texts = self.splits.evaluation.texts[:BENCH_TEXTS]
        return input_batches(self.dense.tokenizer, texts, batch, seq, seed=self.settings.seed)

    def evaluate(self, predict: Predict) -> Evaluation | None:
        """Score on the evaluation data; None if they have no labels and the task needs them."""
        data = self.splits.evaluation
        if self.task.needs_truth and not self.task.has_truth(data):
            return None
        settings = settings_from_config(self.dense.model.config, max_length=self.settings.max_length)
        reference = predict_from_model(self.dense.model)
        return self.task.evaluate(predict, self.dense.tokenizer, data, settings, reference)

    def graph_options(self, dialect: Dialect) -> GraphOptions:
        """How the run's graphs are to be written."""
        return GraphOptions(dialect=dialect, first_token=self.settings.export.first_token)

    @property
    def bench_settings(self) -> BenchSettings:
        """The benchmark's: what is deployed may be of another precision, and is compared all the same.

        Checkpoints are run in the headline's precision; ONNX files have their own.
        """
        settings = bench_settings(self.settings.bench, self.settings.seed)
        files = settings.runtimes == (OrtCpuRunner.runtime,)
        dtype = None if files or self.settings.headline_dtype == Precision.FP32 else self.settings.headline_dtype
        return replace(settings, mixed_precision=True, dtype=dtype)


def bench_settings(grid: BenchGrid, seed: int) -> BenchSettings:
    """The benchmark's own settings from the run's."""
    return BenchSettings(
        runtimes=grid.runtime,
        batches=grid.batch,
        seqs=grid.seq,
        threads=grid.threads,
        blocks=grid.blocks,
        warmup_seconds=grid.warmup_seconds,
        seed=seed,
        headline_clock=grid.clock,
    )
