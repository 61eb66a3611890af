"""ONNX Runtime with bound buffers: on its CPU provider behind a device of Python objects, and, marked gpu, on CUDA."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import onnxruntime
import pytest
import torch

from bench.runners.base import RunnerOptions, Variant
from bench.runners.ort_cuda import OrtCudaRunner
from bench.runners.registry import load_runner
from exporter import ort_cuda
from exporter.int8.dynamic import int8_from_onnx
from exporter.options import GraphOptions
from exporter.ort_cuda import (
    CUDA_PROVIDER,
    RECORD_PLACEMENT,
    check_placement,
    cuda_provider,
    cuda_session_from_onnx,
    missing_ort_cuda,
)
from exporter.ort_session import CPU_PROVIDER, open_session, predict_from_session, session_from_onnx, session_options
from exporter.to_onnx import onnx_from_model
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice
from tests.exporter.int8.files import BATCHES, loose, write_float
from tests.tiny import tiny_batch, tiny_bert


def cpu_session(path: Path, opened: list[bool], *, cuda_graph: bool) -> onnxruntime.InferenceSession:
    """What a GPU would be asked for, on the CPU."""
    opened.append(cuda_graph)
    options = session_options(1)
    options.add_session_config_entry(RECORD_PLACEMENT, "1")
    return open_session(path, options, [CPU_PROVIDER])


def ort_runner(path: Path, variant: Variant | None = None, opened: list[bool] | None = None) -> OrtCudaRunner:
    opener = partial(cpu_session, path, [] if opened is None else opened)
    return OrtCudaRunner(path, opener, FakeDevice(), variant)


@pytest.mark.parametrize("variant", [Variant.EAGER, Variant.CUDA_GRAPH])
@pytest.mark.parametrize("head", ["sequence-classification", "question-answering", "encoder"])
def test_bound_buffers_give_each_input_its_own_answer(variant: Variant, head: str, tmp_path: Path) -> None:
    path = onnx_from_model(tiny_bert(head), tmp_path / "model.onnx").path
    runner, truth = ort_runner(path, variant), predict_from_session(session_from_onnx(path))
    answers = []
    for seed, padding in enumerate(("none", "holes", "left", "right")):
        batch = tiny_batch(3, 8, seed, padding)
        found, expected = runner.run(batch), truth(batch)
        assert tuple(found) == runner.output_names == tuple(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
        answers.append(next(iter(found.values())).clone())
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_a_session_with_cuda_graphs_is_opened_only_when_needed(deployed: Path) -> None:
    opened: list[bool] = []
    runner = ort_runner(deployed / "onnx" / "model.onnx", opened=opened)
    runner.run(tiny_batch())
    assert opened == [False]
    runner.tune(tiny_batch())
    assert opened == [False, True]
    assert (runner.dtype, runner.limits.max_positions) == ("fp32", 40)
    runner.close()


def test_the_provider_gets_the_stream_and_keeps_fp32_exact() -> None:
    assert cuda_provider(1, 77, cuda_graph=True) == (
        CUDA_PROVIDER,
        {"device_id": "1", "user_compute_stream": "77", "use_tf32": "0", "enable_cuda_graph": "1"},
    )


def test_nodes_on_another_provider_are_a_fall_back(deployed: Path) -> None:
    session = cpu_session(deployed / "onnx" / "model.onnx", [], cuda_graph=False)
    check_placement(session, CPU_PROVIDER)
    with pytest.raises(InputError, match=r"not place everything on CUDAExecutionProvider: .*MatMul on CPU.*ort-cuda"):
        check_placement(session, CUDA_PROVIDER)


def test_an_onnxruntime_without_cuda_names_the_extra(deployed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU_PROVIDER])
    assert missing_ort_cuda() is not None
    with pytest.raises(InputError, match=r"no CUDAExecutionProvider; pip uninstall onnxruntime, .*slimbert\[gpu\]"):
        cuda_session_from_onnx(deployed / "onnx" / "model.onnx", 0, 7)
    with pytest.raises(InputError, match="runtime ort-cuda cannot be used here"):
        load_runner("ort-cuda", deployed)


def test_dynamic_int8_is_refused_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_float(tmp_path / "model.onnx")
    int8_from_onnx(file, tmp_path / "int8.onnx", loose(), BATCHES)
    monkeypatch.setattr(ort_cuda, "missing_ort_cuda", lambda: None)
    with pytest.raises(InputError, match="dynamic int8 does not run on ort-cuda"):
        cuda_session_from_onnx(tmp_path / "int8.onnx", 0, 7)


def test_a_right_padding_graph_refuses_other_masks(tmp_path: Path) -> None:
    options = GraphOptions(dialect="ort-cpu", right_padding=True)
    runner = ort_runner(onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=options).path)
    runner.run(tiny_batch(padding="right"))
    for call in (runner.run, runner.bind):
        with pytest.raises(InputError, match="exported for right padding only"):
            call(tiny_batch(padding="left"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available() or missing_ort_cuda() is not None, reason="needs onnxruntime-gpu")
@pytest.mark.parametrize("variant", [Variant.EAGER, Variant.CUDA_GRAPH])
def test_a_gpu_answers_like_the_cpu(variant: Variant, dense: Path) -> None:
    with (
        load_runner("ort-cuda", dense, options=RunnerOptions(variant=variant)) as runner,
        load_runner("torch-cpu", dense) as reference,
    ):
        for seed in range(2):
            batch = tiny_batch(4, 9, seed)
            torch.testing.assert_close(runner.run(batch), reference.run(batch), atol=1e-3, rtol=1e-3)
