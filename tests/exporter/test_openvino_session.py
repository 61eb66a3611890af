"""OpenVINO gives the model's answers in the precision that it says it has, or refuses in one line."""

from __future__ import annotations

import sys

import openvino
import pytest
import torch

from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.qdq import activation_ranges, qdq_from_onnx
from exporter.openvino_session import compiled_from_onnx, precision_from_compiled, predict_from_compiled
from exporter.options import GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import check_parity, parity_batches
from exporter.to_onnx import finite_masking, onnx_from_model
from pruning.batching import predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import SHAPES, tiny_compact
from tests.exporter.int8.files import BATCHES, loose, write_float
from tests.tiny import VOCAB, tiny_batch, tiny_bert

PARITY_CASES = parity_batches(len(VOCAB), 40, 0, token_types=2)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_float(tmp_path_factory.mktemp("openvino") / "model.onnx")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_answers_like_its_model_for_every_mask(shape, tmp_path):
    model = tiny_compact("sequence-classification", *SHAPES[shape])
    path = onnx_from_model(model, tmp_path / "model.onnx").path
    compiled = compiled_from_onnx(path)
    with finite_masking(model):
        parity = check_parity(
            predict_from_model(model),
            predict_from_compiled(compiled, path),
            PARITY_CASES,
            artifact="openvino",
            tolerance=1e-4,
        )
    assert [x for x in parity if not x.passed] == []
    assert precision_from_compiled(compiled) == "fp32"


def test_fused_operators_of_onnxruntime_are_understood(tmp_path):
    path = onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=GraphOptions(dialect="ort-cpu")).path
    batch = tiny_batch(padding="holes")
    found = predict_from_compiled(compiled_from_onnx(path), path)(batch)["logits"]
    assert (found - predict_from_session(session_from_onnx(path))(batch)["logits"]).abs().max() < 1e-4


def test_an_output_keeps_its_name_where_openvino_removes_the_bias_before_it(tmp_path):
    model = tiny_bert()
    torch.nn.init.zeros_(model.classifier.bias)
    path = onnx_from_model(model, tmp_path / "model.onnx").path
    compiled, batch = compiled_from_onnx(path), tiny_batch()
    assert compiled.outputs[0].get_names() == {"logits", "classifier/MatMul"}
    found = predict_from_compiled(compiled, path)(batch)
    assert (found["logits"] - predict_from_session(session_from_onnx(path))(batch)["logits"]).abs().max() < 1e-4


def test_symmetric_qdq_runs_in_int8_and_answers_like_the_float_file(file, tmp_path):
    target = tmp_path / "qdq.onnx"
    qdq_from_onnx(file, target, activation_ranges(file, BATCHES), loose(), batches=BATCHES)
    compiled = compiled_from_onnx(target)
    assert precision_from_compiled(compiled) == "int8"
    truth, predict = predict_from_session(session_from_onnx(target)), predict_from_compiled(compiled, target)
    for batch in BATCHES:
        kept = batch["attention_mask"].bool()
        expected, found = (x(batch)["last_hidden_state"][kept] for x in (truth, predict))
        assert ((found - expected).norm() / expected.norm()) < 0.05


def test_dynamic_int8_is_refused_with_the_reason(file, tmp_path):
    int8_from_onnx(file, tmp_path / "dynamic.onnx", loose(), BATCHES)
    with pytest.raises(InputError, match=r"is dynamic int8, whose products OpenVINO computes in fp32, .* Q/DQ"):
        compiled_from_onnx(tmp_path / "dynamic.onnx")


def test_bf16_needs_a_cpu_that_has_it(file):
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert precision_from_compiled(compiled_from_onnx(file, bf16=True)) == "bf16"
    else:
        with pytest.raises(InputError, match=r"no bf16 instructions .* OpenVINO offers .*FP32"):
            compiled_from_onnx(file, bf16=True)


@pytest.mark.parametrize("padding", ["left", "holes"])
def test_a_right_padding_graph_refuses_other_masks(padding, tmp_path):
    options = GraphOptions(dialect="ort-cpu", right_padding=True)
    path = onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=options).path
    with pytest.raises(InputError, match="exported for right padding only"):
        predict_from_compiled(compiled_from_onnx(path), path)(tiny_batch(padding=padding))


def test_an_unknown_operator_is_refused(file, tmp_path, monkeypatch):
    def refuse(core, path):
        raise RuntimeError("no translator\nfor com.example.Op")

    monkeypatch.setattr(openvino.Core, "read_model", refuse)
    with pytest.raises(InputError, match=r"OpenVINO cannot run .*no translator for com\.example\.Op"):
        compiled_from_onnx(file)


def test_threads_must_be_positive(file):
    with pytest.raises(InputError, match="threads must be at least 1; got 0"):
        compiled_from_onnx(file, threads=0)


def test_missing_openvino(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r'install it with: pip install "slimbert\[openvino\]"'):
        compiled_from_onnx(file)
