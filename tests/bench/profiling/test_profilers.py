"""What the runtimes' own profilers report, turned into places; how long it took does not matter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.inputs import random_batches
from bench.profiling import openvino_profile, tensorrt_profile, torch_profile
from bench.profiling.breakdown import ProfiledCall, Work, operator_times
from bench.profiling.openvino_profile import call_from_counters, places_by_operator, without_first
from bench.profiling.ort_profile import calls_from_events
from bench.profiling.places import Part, Place
from bench.profiling.registry import profiler_from_runtime
from bench.profiling.request import ProfileRequest
from bench.profiling.torch_profile import named_modules, profile_module
from bench.runners.base import Precision, RunnerOptions
from exporter.engine.export import engine_from_onnx
from exporter.engine.library import TensorRt
from exporter.engine.load import TensorRtEngine
from exporter.engine.options import EngineOptions, EnginePrecision, Library
from exporter.openvino_session import compiled_from_onnx
from exporter.to_onnx import onnx_from_model
from pruning.batching import Batch
from pruning.errors import InputError
from tests.exporter.engine.fake_tensorrt import CPU, FakeEngine, FakeStream, FakeTensorRt, layer_json
from tests.exporter.engine.test_load import PROFILES
from tests.exporter.engine.test_record import RECORD
from tests.tiny import VOCAB, tiny_batch, tiny_bert

BATCHES = random_batches(len(VOCAB), 2, 8, count=3)
LAYER_PARTS = {Place(part, layer) for part in (Part.ATTENTION, Part.FFN, Part.NORMS) for layer in range(3)}


def asked(path: Path, scratch: Path, batches: list[Batch] = BATCHES, **options: object) -> ProfileRequest:
    return ProfileRequest(path, batches, 1, scratch, RunnerOptions(**options))


def require_plausible(calls: tuple[ProfiledCall, ...]) -> None:
    """Every layer and part is there, and no call is shorter than its work."""
    assert {work.place for work in calls[-1].work_ms} >= LAYER_PARTS | {Place(Part.EMBEDDINGS), Place(Part.HEAD)}
    require_times(calls)


def require_times(calls: tuple[ProfiledCall, ...]) -> None:
    """One for each batch, and none is shorter than its work."""
    assert len(calls) == len(BATCHES)
    for call in calls:
        assert 0 < sum(call.work_ms.values()) <= call.total_ms
    assert operator_times(calls).total_ms > 0


def test_onnx_runtime_is_broken_down_by_layer(deployed: Path, tmp_path: Path) -> None:
    calls = profiler_from_runtime("ort-cpu")(asked(deployed / "onnx" / "model.onnx", tmp_path))
    require_plausible(calls)
    lost = [work for work in calls[0].work_ms if work.place.part is Part.OTHER]
    assert lost == []
    fused = {work.place for work in calls[0].work_ms if work.operator == "BiasGelu"}
    assert fused == {Place(Part.FFN, layer) for layer in range(3)}


def test_pytorch_is_broken_down_by_layer(dense: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    calls = profiler_from_runtime("torch-cpu")(asked(dense, tmp_path))
    require_plausible(calls)
    assert torch.get_num_threads() == before
    products = [work for work in calls[0].work_ms if work.operator == "addmm"]
    assert {work.place.part for work in products} == {Part.ATTENTION, Part.FFN, Part.HEAD}


@pytest.mark.parametrize("dtype", [Precision.BF16, Precision.FP16])
def test_pytorch_is_profiled_in_the_precision_asked_for(dtype: Precision, dense: Path, tmp_path: Path) -> None:
    found: list[torch.dtype] = []

    def profile_in(model: torch.nn.Module, batches: list[Batch]) -> tuple[ProfiledCall, ...]:
        found.append(next(model.parameters()).dtype)
        return profile_module(model, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_profile, "profile_module", profile_in)
        require_plausible(profiler_from_runtime("torch-cpu")(asked(dense, tmp_path, dtype=dtype)))
    assert found == [{Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}[dtype]]


def test_openvino_is_profiled_in_the_precision_asked_for(
    deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[bool] = []

    def refuse(path: Path, *, threads: int, bf16: bool, counters: bool) -> None:
        wanted.append(bf16)
        raise InputError("this CPU has no bf16")

    monkeypatch.setattr(openvino_profile, "compiled_from_onnx", refuse)
    for dtype in (Precision.BF16, None):
        with pytest.raises(InputError, match="no bf16"):
            profiler_from_runtime("openvino")(asked(deployed, tmp_path, dtype=dtype))
    assert wanted == [True, False]


def test_a_profiled_module_is_left_as_it_was() -> None:
    model, batch = tiny_bert(), tiny_batch()
    with torch.no_grad():
        expected = model(**batch).logits
        profile_module(model, [batch])
        assert torch.equal(model(**batch).logits, expected)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with named_modules(model):
        assert all(module._forward_hooks for module in model.modules())


def test_events_are_charged_to_the_call_around_them() -> None:
    def kernel(name: str, at: int, microseconds: int) -> dict[str, object]:
        return {
            "cat": "Node", "name": f"{name}_kernel_time", "ts": at, "dur": microseconds, "args": {"op_name": "Gemm"}
        }  # fmt: skip

    events = [
        {"cat": "Session", "name": "model_run", "ts": 1000, "dur": 500},
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 900},
        kernel("fused_3", 2100, 700),
        kernel("fused_3", 1010, 400),
        kernel("classifier/MatMul", 1420, 50),
        {"cat": "Session", "name": "model_run", "ts": 2000, "dur": 900},
    ]
    calls = calls_from_events(events, {"fused_3": ("fused_3", "bert.pooler/Tanh", "bert.pooler.dense.weight.T")})
    assert [call.total_ms for call in calls] == [0.5, 0.9]
    assert [list(call.work_ms.values()) for call in calls] == [[0.4, 0.05], [0.7]]
    assert {work.place for work in calls[0].work_ms} == {Place(Part.HEAD)}


def test_openvino_is_broken_down_by_layer(deployed: Path, tmp_path: Path) -> None:
    """The last layer works on one token: less than the microsecond that the counters tell, now and then."""
    file = deployed / "onnx" / "model.onnx"
    places = places_by_operator(compiled_from_onnx(file))
    assert {*places.values()} >= LAYER_PARTS | {Place(Part.EMBEDDINGS), Place(Part.HEAD)}
    calls = profiler_from_runtime("openvino")(asked(file, tmp_path))
    require_times(calls)
    lost = [work for work in calls[0].work_ms if work.place.part is Part.OTHER]
    assert lost == []
    products = {work.place for work in calls[0].work_ms if work.operator == "FullyConnected"}
    assert products >= {Place(part, layer) for part in (Part.ATTENTION, Part.FFN) for layer in range(2)}


def test_the_first_call_is_taken_out_of_a_mean() -> None:
    product, new = Work("a", "MatMul", Place(Part.FFN, 0)), Work("b", "Add", Place(Part.FFN, 0))
    first, mean = ProfiledCall(30.0, {product: 20.0}), ProfiledCall(12.0, {product: 8.0, new: 1.0})
    assert without_first(first, mean, 3) == ProfiledCall(3.0, {product: 2.0, new: 1.5})


def test_counters_of_operators_that_took_no_time_are_left_out() -> None:
    def counter(name: str, microseconds: int) -> SimpleNamespace:
        return SimpleNamespace(node_name=name, node_type="Add", real_time=timedelta(microseconds=microseconds))

    places = {"a": Place(Part.FFN, 1)}
    call = call_from_counters([counter("a", 250), counter("fused", 0), counter("b", 500)], places, 0.001)
    assert call == ProfiledCall(
        1.0, {Work("a", "Add", Place(Part.FFN, 1)): 0.25, Work("b", "Add", Place(Part.OTHER)): 0.5}
    )


def test_tensorrt_is_broken_down_by_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query, residual = "bert.encoder.layer.1.attention.self.query", "bert.encoder.layer.0.attention.output.residual"
    nodes = f"{residual}/Add][ONNX Layer: {query}/MatMul"
    layers = (layer_json("__myl_AddMatMul_myl0_1", nodes), layer_json("__myl_Move_myl0_2", "unnamed"))
    trt = TensorRt(Library.TENSORRT_RTX, FakeTensorRt("1.7.1.116"), (1, 7, 1, 116))
    engine = TensorRtEngine(trt, FakeEngine(layers), replace(RECORD, profiles=PROFILES), CPU, FakeStream())
    monkeypatch.setattr(tensorrt_profile, "load_engine", lambda path, device: engine)
    for runtime in ("tensorrt", "tensorrt-rtx"):
        batches = [tiny_batch(2, 5), tiny_batch(3, 5)]
        calls = profiler_from_runtime(runtime)(asked(tmp_path / "m.engine", tmp_path, batches))
        expected = {
            Work("__myl_AddMatMul_myl0_1", "MatMul", Place(Part.ATTENTION, 1)): 1.0,
            Work("__myl_Move_myl0_2", "__myl_Move_myl0_2", Place(Part.OTHER)): 2.0,
        }
        assert calls == (ProfiledCall(3.0, expected),) * 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("library", list(Library))
def test_a_real_engine_is_broken_down_by_layer(library: Library, tmp_path: Path) -> None:
    pytest.importorskip(library.value.replace("-", "_"))
    onnx = onnx_from_model(tiny_bert(), tmp_path / "m.onnx").path
    capability = f"SM{''.join(map(str, torch.cuda.get_device_capability()))}"
    targets = (capability,) if library is Library.TENSORRT_RTX else ()
    engine_from_onnx(onnx, tmp_path / "m.engine", EngineOptions(library, EnginePrecision.FP32, targets=targets))
    (call,) = profiler_from_runtime(library.value)(asked(tmp_path / "m.engine", tmp_path, [tiny_batch(2, 8)]))
    assert {work.place.layer for work in call.work_ms} >= {0, 1, 2}
    assert call.total_ms > 0


def test_a_runtime_that_cannot_be_profiled_is_named() -> None:
    with pytest.raises(
        InputError, match="abacus cannot be profiled; runtimes that can: openvino, ort-cpu, ort-cuda, tens"
    ):
        profiler_from_runtime("abacus")
