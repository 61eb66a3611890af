from __future__ import annotations

import sys

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from exporter.options import GraphOptions
from exporter.ort_session import metadata_from_session, predict_from_session, session_from_onnx
from exporter.to_onnx import onnx_from_model
from pruning.errors import InputError
from tests.tiny import tiny_batch, tiny_bert


def write_sum(path, inputs):
    """A graph that adds its inputs as integers; ``inputs``: name to element type."""
    values = [helper.make_tensor_value_info(name, kind, ["batch", "sequence"]) for name, kind in inputs.items()]
    output = helper.make_tensor_value_info("total", TensorProto.INT64, ["batch", "sequence"])
    nodes = [helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT) for name in inputs]
    nodes.append(helper.make_node("Sum", [f"{name}_float" for name in inputs], ["sum"]))
    nodes.append(helper.make_node("Cast", ["sum"], ["total"], to=TensorProto.INT64))
    graph = helper.make_graph(nodes, "sum", values, [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


@pytest.mark.parametrize("names", [("input_ids", "attention_mask"), ("token_type_ids", "attention_mask", "input_ids")])
def test_graphs_are_fed_the_inputs_that_they_have(tmp_path, names):
    path = write_sum(tmp_path / "sum.onnx", dict.fromkeys(names, TensorProto.INT64))
    batch = tiny_batch()
    outputs = predict_from_session(session_from_onnx(path))(batch)
    assert torch.equal(outputs["total"], sum(batch[name] for name in names))


def test_session_runs_on_the_cpu_with_the_threads_asked_for(tmp_path):
    path = write_sum(tmp_path / "sum.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    session = session_from_onnx(str(path), threads=2)
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_session_options().intra_op_num_threads == 2


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx does not exist or is not a file; pass an ONNX file"):
        session_from_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all", bytes(range(256))])
def test_corrupt_file(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"broken\.onnx (is not an ONNX file|holds no ONNX graph).* Export or copy it again"
    ):
        session_from_onnx(path)


def test_what_onnx_runtime_refuses_is_told_without_its_source(tmp_path):
    path = write_sum(tmp_path / "new.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    model = onnx.load(path)
    model.ir_version = 99
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"cannot run .*new\.onnx \(Unsupported model IR version: 99, max supported"):
        session_from_onnx(path)


def test_truncated_file(tmp_path):
    path = write_sum(tmp_path / "cut.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut\.onnx is not an ONNX file, or a damaged one"):
        session_from_onnx(path)


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (("pixels",), "pixels"),
        (("input_ids",), "input_ids"),
        (("input_ids", "attention_mask", "x"), "attention_mask, x"),
    ],
)
def test_foreign_inputs(tmp_path, names, seen):
    path = write_sum(tmp_path / "foreign.onnx", dict.fromkeys(names, TensorProto.INT64))
    with pytest.raises(InputError, match=rf"foreign\.onnx is not a BERT: its inputs are .*{seen}; expected input_ids"):
        session_from_onnx(path)


def test_foreign_input_types(tmp_path):
    path = write_sum(tmp_path / "i.onnx", {"input_ids": TensorProto.INT32, "attention_mask": TensorProto.INT64})
    with pytest.raises(InputError, match=r"takes input_ids tensor\(int32\); expected .* as int64"):
        session_from_onnx(path)


def test_threads_must_be_positive(tmp_path):
    path = write_sum(tmp_path / "sum.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    with pytest.raises(InputError, match="threads must be at least 1; got 0"):
        session_from_onnx(path, threads=0)


def test_missing_onnxruntime(tmp_path, monkeypatch):
    path = write_sum(tmp_path / "sum.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'install it with: pip install "slimbert\[cpu\]"'):
        session_from_onnx(path)


def test_silent_fallback_to_another_provider_is_an_error(tmp_path, monkeypatch):
    path = write_sum(tmp_path / "sum.onnx", {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64})
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda session: ["OtherProvider"])
    with pytest.raises(InputError, match="gave OtherProvider instead of CPUExecutionProvider"):
        session_from_onnx(path)


def right_padding_session(tmp_path):
    options = GraphOptions(dialect="ort-cpu", right_padding=True)
    return session_from_onnx(onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=options).path)


@pytest.mark.parametrize("padding", ["left", "holes"])
def test_right_padding_graph_refuses_other_masks(tmp_path, padding):
    predict = predict_from_session(right_padding_session(tmp_path))
    with pytest.raises(InputError, match="exported for right padding only, and a row of the batch has a token after"):
        predict(tiny_batch(padding=padding))


@pytest.mark.parametrize("padding", ["none", "right"])
def test_right_padding_graph_takes_its_own_masks(tmp_path, padding):
    batch = tiny_batch(padding=padding)
    batch["attention_mask"][-1] = 0  # a row without a token is padded too
    outputs = predict_from_session(right_padding_session(tmp_path))(batch)
    assert outputs["logits"].shape == (4, 2)


def test_session_tells_what_the_file_is(tmp_path):
    metadata = metadata_from_session(right_padding_session(tmp_path))
    assert (metadata.head, metadata.form.right_padding) == ("sequence-classification", True)
    inputs = {"input_ids": TensorProto.INT64, "attention_mask": TensorProto.INT64}
    assert metadata_from_session(session_from_onnx(write_sum(tmp_path / "sum.onnx", inputs))) is None
