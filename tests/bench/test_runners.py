"""Every runner gives the model's own answers, from every artifact it takes, and refuses the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
import torch

from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import Limits
from bench.runners.onnx_source import dtype_from_graph
from bench.runners.registry import load_runner
from pruning.errors import InputError
from tests.tiny import VOCAB, tiny_batch, tiny_bert


@pytest.mark.parametrize("runtime", ["torch-cpu", "ort-cpu", "openvino"])
@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
def test_runner_answers_like_the_model(runtime: str, padding: str, dense: Path) -> None:
    batch = tiny_batch(padding=padding)
    with torch.no_grad():
        expected = tiny_bert()(**batch).logits
    with load_runner(runtime, dense) as runner:
        outputs = runner.run(batch)
    assert list(outputs) == ["logits"]
    torch.testing.assert_close(outputs["logits"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("where", [".", "onnx/model.onnx"])
def test_ort_takes_a_deploy_folder_and_an_onnx_file(where: str, deployed: Path) -> None:
    with load_runner("ort-cpu", deployed / where) as runner:
        assert runner.run(tiny_batch())["logits"].shape == (4, 2)
        assert (runner.runtime, runner.dtype, runner.limits) == ("ort-cpu", "fp32", Limits(len(VOCAB), 40))


@pytest.mark.parametrize("runtime", ["torch-cpu", "ort-cpu", "openvino"])
def test_runner_knows_the_limits_of_a_checkpoint(runtime: str, dense: Path) -> None:
    with load_runner(runtime, dense) as runner:
        assert (runner.dtype, runner.limits) == ("fp32", Limits(len(VOCAB), 40))


def test_a_lone_onnx_file_tells_its_vocabulary(deployed: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    lone = shutil.copy(deployed / "onnx" / "model.onnx", tmp_path / "deep" / "lone.onnx")
    with load_runner("ort-cpu", Path(lone)) as runner:
        assert runner.limits == Limits(len(VOCAB), None)


def test_torch_threads_are_set_and_put_back(dense: Path) -> None:
    before = torch.get_num_threads()
    with load_runner("torch-cpu", dense, threads=before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("types", "dtype"),
    [
        ((onnx.TensorProto.FLOAT,), "fp32"),
        ((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16), "fp16"),
        ((onnx.TensorProto.FLOAT, onnx.TensorProto.INT8), "int8"),
    ],
)
def test_dtype_is_that_of_the_matrices(types: tuple[int, ...], dtype: str) -> None:
    matrices = [onnx.TensorProto(name=str(kind), data_type=kind, dims=(2, 2)) for kind in types]
    vector = onnx.TensorProto(name="bias", data_type=onnx.TensorProto.FLOAT16, dims=(2,))
    assert dtype_from_graph(onnx.GraphProto(initializer=[*matrices, vector])) == dtype


def test_weights_beside_an_onnx_file_make_a_checkpoint(deployed: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(deployed, both)
    assert artifact_from_path(both) is Artifact.DEPLOY_FOLDER
    (both / "model.safetensors").touch()
    assert artifact_from_path(both) is Artifact.CHECKPOINT


@pytest.mark.parametrize("runtime", ["torch-cuda", "ort-cuda", "tensorrt", "tensorrt-rtx"])
def test_a_planned_runtime_is_refused(runtime: str, dense: Path) -> None:
    with pytest.raises(InputError, match="is not available yet; available: openvino, ort-cpu, torch-cpu"):
        load_runner(runtime, dense)


def test_an_unknown_runtime_is_refused(dense: Path) -> None:
    with pytest.raises(InputError, match="runtime 'abacus' is unknown; available: openvino, ort-cpu, torch-cpu"):
        load_runner("abacus", dense)


@pytest.mark.parametrize("where", [".", "onnx/model.onnx"])
def test_torch_refuses_onnx(where: str, deployed: Path) -> None:
    with pytest.raises(InputError, match=r"torch-cpu runs a checkpoint folder; .* Use ort-cpu"):
        load_runner("torch-cpu", deployed / where)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load_runner("ort-cpu", tmp_path / "nothing")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a checkpoint folder"):
        load_runner("ort-cpu", tmp_path)


def test_no_threads_are_refused(dense: Path) -> None:
    with pytest.raises(InputError, match="threads must be at least 1; got 0"):
        load_runner("torch-cpu", dense, threads=0)
