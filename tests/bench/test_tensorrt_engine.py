"""Engines on a TensorRT of Python objects: launched on the device's stream, refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.runners import tensorrt_engine
from bench.runners.base import Limits, Precision, RunnerOptions, Variant
from bench.runners.onnx_source import limits_from_config
from bench.runners.registry import load_runner
from bench.runners.tensorrt_engine import EngineRunner, TensorRtRtxRunner, TensorRtRunner
from exporter.engine.library import TensorRt
from exporter.engine.load import TensorRtEngine
from exporter.engine.options import EngineOptions, Library
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice
from tests.exporter.engine.fake_tensorrt import CPU, FakeEngine, FakeStream, FakeTensorRt
from tests.exporter.engine.test_load import PROFILES
from tests.exporter.engine.test_record import RECORD, written
from tests.tiny import tiny_batch


@pytest.fixture
def runner() -> TensorRtRtxRunner:
    trt = TensorRt(Library.TENSORRT_RTX, FakeTensorRt("1.7.1.116"), (1, 7, 1, 116))
    engine = TensorRtEngine(trt, FakeEngine(), replace(RECORD, profiles=PROFILES), CPU, FakeStream())
    return TensorRtRtxRunner(engine, FakeDevice(), vocab_size=30)


@pytest.mark.parametrize("variant", [Variant.EAGER, Variant.CUDA_GRAPH])
def test_engines_run_on_the_stream_that_is_timed(runner: TensorRtRtxRunner, variant: Variant) -> None:
    batch = tiny_batch(2, 5)
    launch = runner.launcher({name: batch[name] for name in runner.input_names}, False, variant)
    assert launch()["logits"].shape == (2, 2)
    assert {stream for context in runner._engine._contexts.values() for stream in context.streams} == {7}
    assert runner.run(batch)["logits"].dtype == torch.float32


def test_an_engine_says_what_it_is(runner: TensorRtRtxRunner) -> None:
    assert (runner.dtype, runner.limits) == (str(RECORD.proven_precision), Limits(30, 16))
    assert (runner.input_names, runner.output_names) == (("input_ids", "attention_mask"), ("logits",))


def test_an_engine_of_the_other_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"was built by tensorrt-rtx; measure it with --runtime tensorrt-rtx"):
        TensorRtRunner.prepare(written(tmp_path / "m.engine"), tmp_path)


def test_an_engine_of_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"computes in {RECORD.proven_precision}, not in int8; build another"):
        TensorRtRtxRunner.prepare(written(tmp_path / "m.engine"), tmp_path, RunnerOptions(dtype=Precision.INT8))


@pytest.mark.parametrize("source", ["dense", "deployed"])
@pytest.mark.parametrize("runner_class", [TensorRtRunner, TensorRtRtxRunner])
def test_checkpoints_and_onnx_files_are_built_on_the_way(
    runner_class: type[EngineRunner],
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    built: list[tuple[str, EngineOptions]] = []
    monkeypatch.setattr(tensorrt_engine, "compute_capability", lambda gpu: f"SM9{gpu}")
    monkeypatch.setattr(
        tensorrt_engine, "engine_from_onnx", lambda onnx, target, options: built.append((onnx.suffix, options))
    )
    options = RunnerOptions(dtype=None if source == "deployed" else Precision.FP16, gpu=1)
    engine = runner_class.prepare(request.getfixturevalue(source), tmp_path, options)
    assert engine == tmp_path / "model.engine"
    assert limits_from_config(engine) == Limits(29, 40)
    ((suffix, found),) = built
    assert (suffix, found.library) == (".onnx", runner_class.library)
    assert found.precision == ("fp32" if source == "deployed" else "fp16")
    assert found.targets == (("SM91",) if runner_class is TensorRtRtxRunner else ())


def test_precisions_that_need_text_are_not_built_on_the_way(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"on the way in fp32 or fp16, not in int8. .*slimbert export --to tensorrt"):
        TensorRtRunner.prepare(dense, tmp_path, RunnerOptions(dtype=Precision.INT8))


def test_a_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: Library) -> TensorRt:
        raise InputError(f"{library} is not installed")

    monkeypatch.setattr(tensorrt_engine, "import_tensorrt", missing)
    with pytest.raises(InputError, match="runtime tensorrt cannot be used here: tensorrt is not installed"):
        load_runner("tensorrt", written(tmp_path / "m.engine"))
