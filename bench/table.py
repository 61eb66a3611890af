"""Measure a latency table: what each size of each sublayer takes in one runtime, on one device, at one input shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from bench.contestants import checked_inputs, random_source
from bench.environment import installed_versions
from bench.paired import BlockPlan, measure_blocks
from bench.runners.base import Bound, Precision, Runner, RunnerOptions
from bench.runners.ort_cpu import OrtCpuRunner
from bench.runners.registry import runner_class_from_runtime
from bench.table_fit import fit_row, low_ms, residual_share
from bench.table_int8 import quantise_probe
from bench.table_probes import Probe, RowProbes, floor_shape, probe_model, random_shapes, row_probes, save_probe
from bench.table_samples import TableSamples
from bench.timer import THREAD, WALL, BlockTimer, time_calls
from exporter.int8.source import ProductKind
from exporter.options import Dialect
from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model
from pruning.latency_table import LatencyTable, Row, ShapeCheck, TableIdentity

CLOCKS = {clock.name: clock for clock in (WALL, THREAD)}
CHECKED_SHAPES = 3
CALLS_PER_BLOCK = 2
WARMUP_CALLS = 2
LIBRARIES = {
    "torch": ("torch",),
    "ort": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", "tensorrt-rtx"),
}
"""By the start of a runtime's name: whose version decides how fast it is."""

Progress = Callable[[int, int, str], None]
"""Told the steps done, all steps, and what is going on."""


@dataclass(frozen=True)
class TableSettings:
    """What to measure: runtime, precision, input shape and threads; ``blocks`` is the effort, ``clock`` wall or thread.

    ``dialect`` names the operators of the graphs; None takes what `slimbert run` deploys (see `graph_dialect`). In
    int8, the products of ``int8_kinds`` are quantised, all of them unless an artifact has fewer.

    Raises:
        InputError: for a size below 1, an unknown clock, the thread clock with several threads, a dialect where no
            graph is run, or int8 where no graph can be quantised without text.
    """

    runtime: str = "ort-cpu"
    dtype: str = "fp32"
    batch: int = 1
    seq: int = 128
    threads: int = 1
    blocks: int = 30
    clock: str = "wall"
    seed: int = 0
    dialect: Dialect | None = None
    int8_kinds: tuple[ProductKind, ...] = tuple(ProductKind)

    @property
    def graph_dialect(self) -> Dialect | None:
        """The dialect asked for; else fused for ONNX Runtime's CPU provider but for fp16, else the runtime's own."""
        fused = self.runtime == OrtCpuRunner.runtime and self.dtype != Precision.FP16
        return self.dialect or (Dialect.ORT_CPU if fused else None)

    @property
    def quantised(self) -> bool:
        """Whether probes are put into int8."""
        return self.dtype == Precision.INT8

    def __post_init__(self) -> None:
        for name in ("batch", "seq", "threads", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of a latency table must be at least 1; got {getattr(self, name)}.")
        if self.clock not in CLOCKS:
            raise InputError(f"the clock must be one of {', '.join(CLOCKS)}; got {self.clock!r}.")
        if self.clock == THREAD.name and self.threads > 1:
            raise InputError(f"the thread clock sees one thread only; got {self.threads} threads. Use --clock wall.")
        if self.dtype not in list(Precision):
            raise InputError(f"dtype must be one of {', '.join(Precision)}; got {self.dtype!r}.")
        if self.dialect is not None and self.runtime.startswith("torch"):
            raise InputError(f"{self.runtime} runs no graph that could have a dialect; leave {self.dialect} out.")
        if self.quantised and (self.runtime != OrtCpuRunner.runtime or self.graph_dialect == Dialect.ORT_CUDA):
            raise InputError(
                f"latency tables in int8 are for {OrtCpuRunner.runtime}, whose graphs can be quantised without text; "
                f"got {self.runtime}, dialect {self.graph_dialect}."
            )
        if self.quantised and not self.int8_kinds:
            raise InputError(f"name at least one kind of product for int8: {', '.join(ProductKind)}.")


def identity_from_model(model: PreTrainedModel, settings: TableSettings) -> TableIdentity:
    """What a table for ``model`` on this machine is called.

    Raises:
        InputError: if the runtime is not available.
    """
    arch = arch_from_model(model)
    libraries = next((x for start, x in LIBRARIES.items() if settings.runtime.startswith(start)), ())
    return TableIdentity(
        runtime=settings.runtime,
        dtype=settings.dtype,
        dialect=settings.graph_dialect,
        batch=settings.batch,
        seq=settings.seq,
        threads=settings.threads,
        device=runner_class_from_runtime(settings.runtime).hardware(),
        versions=installed_versions(libraries),
        head=head_from_model(model),
        layers=len(arch.layers),
        hidden=arch.hidden,
        head_dim=arch.head_dim,
        heads=max(arch.heads),
        ffn=max(arch.ffn),
        int8_kinds=tuple(kind.value for kind in ProductKind if settings.quantised and kind in settings.int8_kinds),
    )


def serves_first_token(runtime: str, head: str) -> bool:
    """Whether the last layer is computed for one token: our graphs do so for classifiers, PyTorch does not."""
    return head == "sequence-classification" and not runtime.startswith("torch")


def measure_table(
    model: PreTrainedModel,
    settings: TableSettings,
    progress: Progress = lambda done, total, what: None,
    time_block: BlockTimer | None = None,
    *,
    previous: TableSamples | None = None,
    keep: Callable[[TableSamples], None] = lambda samples: None,
) -> LatencyTable:
    """Time probes of every size and a few whole shapes, interleaved, and fit the table.

    Args:
        model: dense or compact BERT that is to be pruned.
        settings: what to measure.
        progress: called after each probe that is ready and each block.
        time_block: in place of the clock of the settings.
        previous: what was measured before; only the blocks that it lacks are measured.
        keep: called with everything so far, after each block.

    Raises:
        InputError: if the runtime is not available, or not in this precision, or ``previous`` is of another table.
    """
    layout = _layout(model, settings)
    samples = TableSamples(identity_from_model(model, settings), settings.clock, settings.seed, layout.probes)
    if previous is not None:
        previous.require_continues(samples)
        samples = previous
    if len(samples.blocks_ms) < settings.blocks:
        samples = _time_probes(model, samples, settings, _Watch(progress, keep), time_block)
    return _table_from_samples(samples, layout)


@dataclass(frozen=True)
class _Layout:
    """The probes of a table: rows by name, the model of empty sublayers, and whole shapes, the dense one first."""

    rows: Mapping[str, RowProbes]
    shapes: Sequence[ArchSpec]
    floor: Probe
    whole: Sequence[Probe]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Each once."""
        parts = [probe for row in self.rows.values() for probe in (row.base, *row.probes)]
        return tuple(dict.fromkeys([*parts, self.floor, *self.whole]))


def _layout(model: PreTrainedModel, settings: TableSettings) -> _Layout:
    head, arch = head_from_model(model), arch_from_model(model)
    first_token = serves_first_token(settings.runtime, head)
    shapes = [arch, *random_shapes(arch, CHECKED_SHAPES, settings.seed)]
    floor, *whole = (
        Probe(head, shape.layers, model.config.vocab_size)
        for shape in (floor_shape(arch, first_token=first_token), *shapes)
    )
    return _Layout(row_probes(max(arch.heads), max(arch.ffn), first_token=first_token), shapes, floor, whole)


def _table_from_samples(samples: TableSamples, layout: _Layout) -> LatencyTable:
    times = {probe: low_ms(found) for probe, found in samples.by_probe().items()}
    fitted = {name: fit_row(row, times) for name, row in layout.rows.items()}
    last_heads, last_ffn = (_optional_row(fitted, name) for name in ("last_heads", "last_ffn"))
    one_head = last_heads.ms[1] if last_heads and samples.identity.heads else 0.0
    table = LatencyTable(
        identity=samples.identity,
        clock=samples.clock,
        heads=fitted["heads"][0],
        ffn=fitted["ffn"][0],
        last_heads=last_heads,
        last_ffn=last_ffn,
        floor_ms=max(times[layout.floor] - one_head, 0.0),
        residual=residual_share(fitted),
        checks=(),
    )
    return _with_checks(table, layout.shapes, [times[probe] for probe in layout.whole])


def _with_checks(table: LatencyTable, shapes: Sequence[ArchSpec], measured: Sequence[float]) -> LatencyTable:
    prices = table.prices(shapes[0])
    checks = [ShapeCheck(str(x), prices.total(x), ms) for x, ms in zip(shapes, measured, strict=True)]
    values = {**vars(table), "checks": tuple(checks)}
    return LatencyTable(**values)


def _optional_row(fitted: Mapping[str, tuple[Row, float]], name: str) -> Row | None:
    return fitted[name][0] if name in fitted else None


@dataclass(frozen=True)
class _Watch:
    progress: Progress
    keep: Callable[[TableSamples], None]


def _time_probes(
    model: PreTrainedModel,
    samples: TableSamples,
    settings: TableSettings,
    watch: _Watch,
    time_block: BlockTimer | None,
) -> TableSamples:
    """The blocks that are missing: all probes loaded, called in turn, block after block."""
    probes, first = samples.probes, len(samples.blocks_ms)
    total = len(probes) + settings.blocks - first
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="slimbert-table-")))
        runners: dict[str, Runner] = {}
        for index, probe in enumerate(probes):
            runners[str(index)] = stack.enter_context(_load_probe(model, probe, settings, scratch / str(index)))
            watch.progress(index + 1, total, f"probe {index + 1} of {len(probes)} ready")
        batches = checked_inputs(runners, random_source(runners, settings.seed), settings.batch, settings.seq)
        bound = {name: [runner.bind(batch) for batch in batches] for name, runner in runners.items()}
        calls = {name: _calls(runners[name], items) for name, items in bound.items()}
        for call in calls.values():
            for _ in range(WARMUP_CALLS):
                call(0)
        plan = BlockPlan(settings.blocks, CALLS_PER_BLOCK, settings.seed)
        timer = time_block or partial(time_calls, clocks=[CLOCKS[settings.clock]])
        for block in measure_blocks(calls, range(len(batches)), plan, timer, first):
            samples = samples.with_block(tuple(block[str(index)][settings.clock] for index in range(len(probes))))
            watch.keep(samples)
            done = len(samples.blocks_ms)
            watch.progress(len(probes) + done - first, total, f"block {done} of {settings.blocks}")
    return samples


def _calls(runner: Runner, bound: Sequence[Bound]) -> Callable[[int], None]:
    def call(index: int) -> None:
        bound[index]()
        if runner.device is not None:
            runner.device.synchronize()

    return call


def _load_probe(model: PreTrainedModel, probe: Probe, settings: TableSettings, folder: Path) -> Runner:
    runner_class = runner_class_from_runtime(settings.runtime)
    stored = Precision.FP32 if settings.quantised else Precision(settings.dtype)
    options = RunnerOptions(dtype=stored, dialect=settings.graph_dialect)
    prepared, checkpoint = folder / "prepared", folder / "checkpoint"
    prepared.mkdir(parents=True)
    save_probe(probe_model(probe, model.config, arch_from_model(model).head_dim), checkpoint)
    path = runner_class.prepare(checkpoint, prepared, options)
    if settings.quantised:
        quantise_probe(path, settings.int8_kinds)
    return runner_class.load(path, settings.threads, options)
