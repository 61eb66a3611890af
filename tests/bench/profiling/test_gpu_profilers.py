"""Profiles of a GPU: on a device of Python objects and a session of the CPU, and, marked gpu, for real."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity

from bench.batch_files import load_batches, save_batches
from bench.fresh_process import run_module
from bench.profiling import ort_cuda_profile
from bench.profiling.breakdown import ProfiledCall, Work, operator_times
from bench.profiling.ort_cuda_profile import BLOCKING, GpuProfileTask, profile_onnx_cuda, run_task
from bench.profiling.ort_profile import calls_from_folder
from bench.profiling.places import Part, Place
from bench.profiling.registry import profiler_from_runtime
from bench.profiling.request import ProfileRequest
from bench.profiling.torch_cuda_profile import kernel_ms, profile_module_on_device
from bench.profiling.torch_profile import CALL, MODULE, call_from_root
from bench.runners.base import Precision, RunnerOptions
from bench.runners.registry import RUNNERS
from exporter.ort_session import session_from_onnx
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice
from tests.bench.profiling.test_profilers import BATCHES, LAYER_PARTS, asked, require_plausible
from tests.tiny import tiny_batch, tiny_bert

QUERY = "bert.encoder.layer.1.attention.self.query"


def event(name: str, *children: SimpleNamespace, kernels: tuple[float, ...] = ()) -> SimpleNamespace:
    """An event of PyTorch's profiler; kernels are given by their microseconds."""
    return SimpleNamespace(
        name=name, cpu_children=list(children), kernels=[SimpleNamespace(duration=us) for us in kernels]
    )


def test_kernels_are_charged_to_the_module_that_launched_them() -> None:
    product = event("aten::linear", event("aten::addmm", event("cudaLaunchKernel"), kernels=(400.0, 100.0)))
    marked = event(f"{MODULE}{QUERY}", product, kernels=(999.0,))  # an annotation spans its kernels: no work of its own
    root = event(CALL, event(MODULE, marked, event("aten::add", kernels=(50.0,))), kernels=(999.0,))
    assert call_from_root(root, 0.7, kernel_ms) == ProfiledCall(
        0.7,
        {
            Work(f"{QUERY}/addmm", "addmm", Place(Part.ATTENTION, 1)): 0.5,
            Work("/add", "add", Place(Part.OTHER)): 0.05,
        },
    )


def test_a_gpu_profile_has_the_time_between_events_and_the_inputs_on_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, model = FakeDevice(), tiny_bert()
    seen: list[list[str]] = []

    def forward(module: object, arguments: object, named: dict[str, object], output: object) -> None:
        seen.append(sorted(named))
        device.work(gpu_ms=3.0)

    model.register_forward_hook(forward, with_kwargs=True)
    monkeypatch.setattr("bench.profiling.torch_cuda_profile.kernel_ms", lambda event: event.self_cpu_time_total / 1e9)
    batches = [tiny_batch(2, 8, padding="none"), tiny_batch(2, 8, padding="right")]
    calls = profile_module_on_device(model, batches, device, [ProfilerActivity.CPU])
    assert [call.total_ms for call in calls] == [3.0, 3.0]
    assert {work.place for work in calls[1].work_ms} >= LAYER_PARTS | {Place(Part.HEAD)}
    assert seen == [["input_ids", "token_type_ids"], ["attention_mask", "input_ids", "token_type_ids"]]
    assert device.log.count("resident") == 5
    assert device.inside == 0
    assert operator_times(calls).total_ms == pytest.approx(3.0)


@pytest.fixture
def cpu_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions for a GPU are opened on the CPU."""

    def open_session(path: Path, gpu: int, stream: int, *, profile_folder: Path) -> object:
        assert (gpu, stream) == (1, FakeDevice().stream)
        return session_from_onnx(path, profile_folder=profile_folder)

    monkeypatch.setattr(ort_cuda_profile, "cuda_session_from_onnx", open_session)
    monkeypatch.setattr(ort_cuda_profile, "cuda_device", lambda index: FakeDevice())


def test_the_fresh_process_leaves_a_profile_of_every_batch(cpu_session: None, deployed: Path, tmp_path: Path) -> None:
    save_batches(BATCHES, tmp_path / ort_cuda_profile.INPUTS)
    run_task(GpuProfileTask(str(deployed / "onnx" / "model.onnx"), str(tmp_path), 1))
    require_plausible(calls_from_folder(tmp_path))


def test_launches_wait_for_their_kernels(
    cpu_session: None, deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, dict[str, str]]] = []

    def run_here(module: str, argument: str, failure: str, variables: dict[str, str]) -> None:
        started.append((module, variables))
        run_task(GpuProfileTask(**json.loads(argument)))

    monkeypatch.setattr(ort_cuda_profile, "run_module", run_here)
    require_plausible(profile_onnx_cuda(asked(deployed / "onnx" / "model.onnx", tmp_path, gpu=1)))
    assert started == [("bench.profiling.ort_cuda_profile", {"CUDA_LAUNCH_BLOCKING": "1"})]
    assert started[0][1] == BLOCKING


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_process_that_fails_says_why(deployed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"could not profile .*model.onnx in ort-cuda: .*InputError: "):
        profile_onnx_cuda(asked(deployed / "onnx" / "model.onnx", tmp_path))


def test_a_module_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"it could not start: .*no_such_module"):
        run_module("bench.no_such_module", "{}", "it could not start")


def test_batches_survive_their_file(tmp_path: Path) -> None:
    save_batches(BATCHES, tmp_path / "batches.safetensors")
    again = load_batches(tmp_path / "batches.safetensors")
    assert [{name: x.tolist() for name, x in batch.items()} for batch in again] == [
        {name: x.tolist() for name, x in batch.items()} for batch in BATCHES
    ]
    assert asdict(GpuProfileTask("a", "b", 0)) == {"path": "a", "folder": "b", "gpu": 0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("runtime", "dtype"),
    [("torch-cuda", Precision.FP32), ("torch-cuda", Precision.FP16), ("torch-cuda", Precision.BF16),
     ("ort-cuda", Precision.FP32), ("ort-cuda", Precision.FP16)],
)  # fmt: skip
def test_a_real_gpu_is_broken_down_by_layer(runtime: str, dtype: Precision, dense: Path, tmp_path: Path) -> None:
    if (missing := RUNNERS[runtime].missing()) is not None:
        pytest.skip(missing)
    options = RunnerOptions(dtype=dtype)
    (tmp_path / "prepared").mkdir()
    (tmp_path / "scratch").mkdir()
    prepared = RUNNERS[runtime].prepare(dense, tmp_path / "prepared", options)
    request = ProfileRequest(prepared, BATCHES, 1, tmp_path / "scratch", options)
    calls = profiler_from_runtime(runtime)(request)
    assert len(calls) == len(BATCHES)
    assert {work.place.layer for work in calls[-1].work_ms} >= {0, 1, 2}
    assert all(0 < sum(call.work_ms.values()) <= call.total_ms for call in calls)
