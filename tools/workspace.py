"""What the stages of a run share: the request, the dense model, the data, and where things go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.inputs import input_batches
from bench.result import BenchSettings
from exporter.deploy import ONNX_FILE
from exporter.options import Dialect, GraphOptions
from pruning.arch import ArchSpec
from pruning.batching import Batch, Encodings, Predict, encode, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.introspect import arch_from_model
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import Evaluation, Task, settings_from_config
from pruning.tasks.text_data import TextData
from tools.console import Steps
from tools.run_folder import RunFolder
from tools.settings import BenchGrid, RunSettings

BENCH_TEXTS = 2000
PARITY_TEXTS = 128
DEPLOYED_GRAPH = f"deploy/{ONNX_FILE.as_posix()}"

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
        return encode(self.dense.tokenizer, rows.texts, rows.pairs, max_length=self.settings.max_length)

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

    @property
    def graph_options(self) -> GraphOptions:
        """How the run's fp32 graph is to be written."""
        asked = self.settings.export
        return GraphOptions(dialect=Dialect(asked.dialect), first_token=asked.first_token)

    @property
    def bench_settings(self) -> BenchSettings:
        """The benchmark's: what is deployed may be of another precision, and is compared all the same."""
        return replace(bench_settings(self.settings.bench, self.settings.seed), mixed_precision=True)


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
