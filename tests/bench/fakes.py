"""A benchmark result made of simulated times: two candidates, two cells, known ratios."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bench.cell import BASELINE, CONTROL, Cell, InputShape, Repetition
from bench.environment import Environment
from bench.report.schema import ArchFacts, Metric, ModelFacts, ParityRow, RunFacts, build_report
from bench.result import ArtifactFacts, BenchModel, BenchResult, BenchSettings
from bench.timer import Warmup
from pruning.arch import ArchSpec

ENVIRONMENT = Environment(
    cpu="Example CPU @ 2.90GHz",
    cores=8,
    memory_bytes=34_359_738_368,
    os="Linux-6.1.0-x86_64",
    python="3.11.9",
    versions={"torch": "2.13.0", "transformers": "5.23.0", "onnxruntime": "1.32.0"},
)
SPEEDUPS = {BASELINE: 1.0, CONTROL: 1.0, "candidate-1": 1.9, "candidate-2": 1.0}


LAYERS = {
    BASELINE: ([12] * 6, [1536] * 6),
    "candidate-1": ([12, 10, 8, 5, 2, 1], [1216, 992, 800, 640, 416, 0]),
    "candidate-2": ([12] * 6, [1536] * 6),
}


def fake_model(key: str, label: str) -> BenchModel:
    arch = ArchSpec.from_lists(384, 32, *LAYERS[key])
    return BenchModel(key, label, f"models/{key}", facts=ArtifactFacts(f"{key:0>64}", 90_868_000, arch.to_dict()))


def fake_repetition(p50_ms: float, keys: tuple[str, ...], noise: float, load: float, seed: int) -> Repetition:
    rng = np.random.default_rng(seed)
    drift = rng.exponential(noise, (30, 1))

    def blocks(speedup: float, scale: float) -> tuple[tuple[float, ...], ...]:
        times = scale * p50_ms / speedup * np.exp(drift + rng.exponential(noise, (30, 4)))
        return tuple(tuple(row) for row in times.round(6).tolist())

    samples = {
        clock: {key: blocks(SPEEDUPS[key], scale) for key in keys} for clock, scale in (("wall", 1.0), ("thread", 0.97))
    }
    return Repetition({key: Warmup(1.2, 60, stable=noise < 0.1) for key in keys}, samples, other_load=load)


def fake_cell(batch: int, repetitions: tuple[Repetition, ...], **fields: object) -> Cell:
    keys = repetitions[0].samples_ms["wall"]
    cell = Cell(
        runtime="ort-cpu",
        batch=batch,
        seq=128,
        runtimes=dict.fromkeys(keys, "ort-cpu"),
        dtypes=dict.fromkeys(keys, "fp32"),
        shapes=(InputShape(batch, 128, batch * 128),) * 8,
        repetitions=repetitions,
    )
    return replace(cell, **fields)


def fake_result(
    candidates: int = 1, *, noise: float = 0.03, load: float = 0.4, cells: int = 2, processes: int = 1
) -> BenchResult:
    keys = tuple(f"candidate-{index + 1}" for index in range(candidates))
    labels = ("compact", "other <b>")
    grid = ((1, 22.0), (8, 160.0))[:cells]
    contestants = (BASELINE, CONTROL, *keys)
    return BenchResult(
        settings=BenchSettings(batches=tuple(batch for batch, _ in grid), processes=processes),
        models=(fake_model(BASELINE, "dense"), *map(fake_model, keys, labels)),
        cells=tuple(
            fake_cell(
                batch,
                tuple(fake_repetition(p50_ms, contestants, noise, load, 100 * p + index) for p in range(processes)),
            )
            for index, (batch, p50_ms) in enumerate(grid)
        ),
        environment=ENVIRONMENT,
        inputs="token ids of real text",
    )


def fake_report(bench: BenchResult | None = None, **run: object) -> dict[str, object]:
    """``report.json`` of a run that halved MiniLM; ``run`` replaces fields of the run's facts."""
    facts = {
        "task": "text-classification",
        "method": "fisher",
        "requested_speedup": 1.8,
        "command": "slimbert run models/dense --task text-classification --data train.csv --speedup 1.8 --out out",
        "seconds": {"finetune": 191.3, "prune": 38.2, "export": 3.1, "bench": 34.8},
        "notes": ("Training used 4,000 of the 20,000 examples.",),
    }
    return build_report(
        RunFacts.model_validate(facts | run),
        _facts(22_714_370, 10_616_832, 90_868_000, [12] * 6, [1536] * 6, 0.982),
        _facts(16_102_914, 5_308_416, 64_421_000, [12, 10, 8, 5, 2, 1], [1216, 992, 800, 640, 416, 0], 0.979),
        [ParityRow(artifact="onnx/model.onnx", max_abs_diff=2.4e-6, tolerance=1e-4, passed=True)],
        bench or fake_result(),
    )


def _facts(params: int, linear: int, size: int, heads: list[int], ffn: list[int], accuracy: float) -> ModelFacts:
    arch = ArchSpec.from_lists(384, 32, heads, ffn).to_dict()
    return ModelFacts(
        params=params,
        encoder_linear_params=linear,
        bytes=size,
        arch=ArchFacts.model_validate(arch),
        metric=Metric(name="accuracy", value=accuracy, n=3_227),
    )
