"""What the runtimes' own profilers report, turned into places; how long it took does not matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.inputs import random_batches
from bench.profiling.breakdown import ProfiledCall, operator_times
from bench.profiling.ort_profile import calls_from_events
from bench.profiling.places import Part, Place
from bench.profiling.registry import profiler_from_runtime
from bench.profiling.torch_profile import named_modules, profile_module
from pruning.errors import InputError
from tests.tiny import VOCAB, tiny_batch, tiny_bert

BATCHES = random_batches(len(VOCAB), 2, 8, count=3)
LAYER_PARTS = {Place(part, layer) for part in (Part.ATTENTION, Part.FFN, Part.NORMS) for layer in range(3)}


def require_plausible(calls: tuple[ProfiledCall, ...]) -> None:
    """Every layer and part is there, and no call is shorter than its work."""
    assert len(calls) == len(BATCHES)
    places = {work.place for work in calls[-1].work_ms}
    assert places >= LAYER_PARTS | {Place(Part.EMBEDDINGS), Place(Part.HEAD)}
    for call in calls:
        assert 0 < sum(call.work_ms.values()) <= call.total_ms
    assert operator_times(calls).total_ms > 0


def test_onnx_runtime_is_broken_down_by_layer(deployed: Path, tmp_path: Path) -> None:
    calls = profiler_from_runtime("ort-cpu")(deployed / "onnx" / "model.onnx", BATCHES, 1, tmp_path)
    require_plausible(calls)
    lost = [work for work in calls[0].work_ms if work.place.part is Part.OTHER]
    assert lost == []
    fused = {work.place for work in calls[0].work_ms if work.operator == "BiasGelu"}
    assert fused == {Place(Part.FFN, layer) for layer in range(3)}


def test_pytorch_is_broken_down_by_layer(dense: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    calls = profiler_from_runtime("torch-cpu")(dense, BATCHES, 1, tmp_path)
    require_plausible(calls)
    assert torch.get_num_threads() == before
    products = [work for work in calls[0].work_ms if work.operator == "addmm"]
    assert {work.place.part for work in products} == {Part.ATTENTION, Part.FFN, Part.HEAD}


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


def test_a_runtime_that_cannot_be_profiled_is_named() -> None:
    with pytest.raises(InputError, match="abacus cannot be profiled; runtimes that can: ort-cpu, torch-cpu"):
        profiler_from_runtime("abacus")
