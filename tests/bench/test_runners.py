"""Every runner gives the model's own answers, from every artifact it takes, and refuses the others."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch

from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import Limits, Precision, RunnerOptions
from bench.runners.checks import check_comparable
from bench.runners.onnx_source import dtype_from_graph
from bench.runners.registry import load_runner
from exporter import openvino_session
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
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


def test_a_lone_onnx_file_tells_its_vocabulary_and_positions(deployed: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    lone = shutil.copy(deployed / "onnx" / "model.onnx", tmp_path / "deep" / "lone.onnx")
    with load_runner("ort-cpu", Path(lone)) as runner:
        assert runner.limits == Limits(len(VOCAB), 40)


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


def test_a_runtime_that_needs_a_gpu_says_so(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError, match="runtime torch-cuda cannot be used here: this PyTorch is built without CUDA"):
        load_runner("torch-cuda", dense)


def test_an_unknown_runtime_is_refused(dense: Path) -> None:
    with pytest.raises(InputError, match="runtime 'abacus' is unknown; known: openvino, ort-cpu, ort-cuda, tensorrt"):
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


def test_onnx_files_and_checkpoints_come_in_the_precision_that_was_asked_for(dense: Path, deployed: Path) -> None:
    half = RunnerOptions(dtype=Precision.FP16)
    with load_runner("ort-cpu", dense, options=half) as runner:
        assert runner.dtype == "fp16"
    with load_runner("torch-cpu", dense, options=RunnerOptions(dtype=Precision.BF16)) as runner:
        assert (runner.dtype, runner.run(tiny_batch())["logits"].dtype) == ("bf16", torch.float32)
    with pytest.raises(InputError, match=r"model\.onnx is fp32, not fp16; pass a file of that precision"):
        load_runner("ort-cpu", deployed / "onnx" / "model.onnx", options=half)
    with pytest.raises(InputError, match=r"model_fp16\.onnx does not exist"):
        load_runner("ort-cpu", deployed, options=half)


@pytest.mark.parametrize(("runtime", "dtype"), [("ort-cpu", "bf16"), ("torch-cpu", "int8"), ("openvino", "fp16")])
def test_a_precision_that_a_runtime_does_not_have_is_refused(runtime: str, dtype: str, dense: Path) -> None:
    with pytest.raises(InputError, match=f"{runtime} cannot be asked for {dtype}; it has fp32"):
        load_runner(runtime, dense, options=RunnerOptions(dtype=Precision(dtype)))


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
def test_int8_is_not_made_on_the_way(runtime: str, dense: Path) -> None:
    with pytest.raises(InputError, match=r"int8 is not made on the way, .* slimbert export --dtype int8"):
        load_runner(runtime, dense, options=RunnerOptions(dtype=Precision.INT8))


def test_openvino_refuses_a_precision_that_it_does_not_compute_in(
    deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_session, "precision_from_compiled", lambda compiled: "bf16")
    with pytest.raises(InputError, match=r"computes .*model\.onnx in bf16 on this CPU, not in fp32"):
        load_runner("openvino", deployed, options=RunnerOptions(dtype=Precision.FP32))


@pytest.mark.parametrize("runtime", ["torch-cpu", "ort-cpu", "openvino"])
def test_engines_are_for_tensorrt(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "model.engine").touch()
    with pytest.raises(InputError, match=r"a TensorRT engine.* tensorrt or tensorrt-rtx"):
        load_runner(runtime, tmp_path / "model.engine")


def test_a_runtime_that_is_not_installed_names_its_extra(dense: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r'openvino cannot be used here: .* pip install "slimbert\[openvino\]"'):
        load_runner("openvino", dense)


def test_models_that_answer_alike_may_be_compared(dense: Path, deployed: Path) -> None:
    with load_runner("torch-cpu", dense) as baseline, load_runner("ort-cpu", deployed) as candidate:
        check_comparable({"baseline": baseline, "candidate": candidate}, "baseline")


def test_other_outputs_than_the_baselines_are_refused(dense: Path, tmp_path: Path) -> None:
    file = onnx_from_model(tiny_bert("encoder"), tmp_path / "pooled.onnx", options=GraphOptions(pooling="mean")).path
    with (
        load_runner("torch-cpu", dense) as baseline,
        load_runner("ort-cpu", file) as candidate,
        pytest.raises(InputError, match=r"candidate answers with last_hidden_state, sentence_embedding, but .* logits"),
    ):
        check_comparable({"baseline": baseline, "candidate": candidate}, "baseline")


def test_another_precision_than_the_baselines_is_refused_unless_asked_for(dense: Path) -> None:
    half = RunnerOptions(dtype=Precision.BF16)
    with load_runner("torch-cpu", dense) as baseline, load_runner("torch-cpu", dense, options=half) as candidate:
        runners = {"baseline": baseline, "candidate": candidate}
        check_comparable(runners, "baseline", mixed_precision=True)
        with pytest.raises(
            InputError, match=r"candidate computes in bf16, but the baseline in fp32.* --mixed-precision"
        ):
            check_comparable(runners, "baseline")
