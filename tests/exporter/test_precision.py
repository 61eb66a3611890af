from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import torch

from exporter import rounding, to_onnx
from exporter.describe import describe_onnx
from exporter.graph import graph_from_model
from exporter.options import Dialect, GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import FP16_TOLERANCE, ParityError
from exporter.to_onnx import onnx_from_model, parity_with_onnx
from tests.exporter.compact import SHAPES, predict_from_graph, tiny_compact
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert

HALF = "fp16"


@pytest.mark.parametrize("head", DENSE_CLASSES)
@pytest.mark.parametrize("dialect", Dialect)
def test_half_precision_file_answers_within_its_tolerance_in_fp32(tmp_path, head, dialect):
    model = tiny_compact(head, *SHAPES["empty first and last layers"])
    export = onnx_from_model(model, tmp_path / "model.onnx", options=GraphOptions(dialect=dialect, dtype=HALF))
    assert all(result.passed and result.tolerance >= FP16_TOLERANCE for result in export.parity)
    outputs = predict_from_session(session_from_onnx(export.path))(tiny_batch())
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert describe_onnx(export.path).precisions.keys() == {"FLOAT16"}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_choice_of_fp32_parts_is_right(tmp_path, shape):
    model = tiny_compact("masked-lm", *SHAPES[shape])
    for parts in GraphOptions(dtype=HALF).fp32_choices:
        options = GraphOptions(dtype=HALF, fp32_parts=parts)
        assert onnx_from_model(model, tmp_path / "model.onnx", options=options).form.fp32_parts == parts


def test_the_file_is_half_as_large(tmp_path):
    model = tiny_bert("question-answering", hidden_size=64, intermediate_size=512)
    single = onnx_from_model(model, tmp_path / "single.onnx").bytes
    assert onnx_from_model(model, tmp_path / "half.onnx", options=GraphOptions(dtype=HALF)).bytes < 0.56 * single


def test_layer_norm_in_fp32_keeps_its_weights_in_fp32():
    options = GraphOptions(dtype=HALF, fp32_parts=("layer_norm",))
    initializers = graph_from_model(tiny_bert(), options=options).graph.initializers
    assert initializers["bert.embeddings.LayerNorm.weight"].dtype == ir.DataType.FLOAT
    assert initializers["bert.embeddings.word_embeddings.weight"].dtype == ir.DataType.FLOAT16


def errors_of_choices(model, path, dialect):
    """Largest error of every choice of fp32 parts, for outputs up to 1."""
    errors = {}
    for parts in GraphOptions(dtype=HALF, dialect=dialect).fp32_choices:
        options = GraphOptions(dtype=HALF, dialect=dialect, fp32_parts=parts)
        parity = onnx_from_model(model, path, options=options).parity
        errors[parts] = max(x.max_abs_diff / x.tolerance * FP16_TOLERANCE for x in parity)
    return errors


@pytest.mark.parametrize("dialect", ["standard", "ort-cuda"])
def test_the_cheapest_choice_that_passes_is_written_and_recorded(tmp_path, monkeypatch, dialect):
    models = (tiny_bert("encoder", seed) for seed in range(8))  # in some, fp16 everywhere happens to be best
    found = ((model, errors_of_choices(model, tmp_path / "model.onnx", dialect)) for model in models)
    model, errors = next((model, errors) for model, errors in found if errors[()] > 1.05 * min(errors.values()))
    best = min(errors.values())
    monkeypatch.setitem(to_onnx.TOLERANCES, HALF, 1.01 * best)
    wanted = next(parts for parts, error in errors.items() if error <= 1.01 * best)
    export = onnx_from_model(model, tmp_path / "model.onnx", options=GraphOptions(dtype=HALF, dialect=dialect))
    assert export.form.fp32_parts == describe_onnx(export.path).form.fp32_parts == wanted


@pytest.mark.parametrize("head", DENSE_CLASSES)
@pytest.mark.parametrize("dialect", Dialect)
def test_running_a_graph_with_its_rounding_agrees_with_onnx_runtime(head, dialect):
    model, batch = tiny_compact(head, *SHAPES["empty attention"], hidden_act="gelu_new"), tiny_batch(padding="holes")
    options = GraphOptions(dialect=dialect, pooling="mean" if head == "encoder" else None)
    expected = predict_from_graph(model, options=options)(batch)
    found = rounding.predict_from_graph(graph_from_model(model, options=options))(batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5)


def test_running_a_graph_with_lengths_agrees_with_onnx_runtime():
    model, options = tiny_bert(hidden_act="relu"), GraphOptions(dialect="ort-cpu", right_padding=True)
    expected = predict_from_graph(model, options=options)(tiny_batch())["logits"]
    found = rounding.predict_from_graph(graph_from_model(model, options=options))(tiny_batch())["logits"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_rounding_shows_an_overflow_that_onnx_runtime_on_a_cpu_hides():
    model, options = wide_residual(), GraphOptions(dtype=HALF)
    shown = rounding.predict_from_graph(graph_from_model(model, options=options))(tiny_batch())
    hidden = predict_from_graph(model, options=options)(tiny_batch())
    assert not torch.isfinite(shown["last_hidden_state"]).all()
    assert torch.isfinite(hidden["last_hidden_state"]).all()


def test_a_tolerance_that_no_choice_meets_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(to_onnx.TOLERANCES, HALF, 1e-9)
    with pytest.raises(ParityError, match="onnx fp16, rounded as on an accelerator does not answer like the model"):
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=GraphOptions(dtype=HALF))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dialect", Dialect)
def test_a_wide_residual_keeps_layer_norm_in_fp32(tmp_path, dialect):
    options = GraphOptions(dialect=dialect, dtype=HALF)
    export = onnx_from_model(wide_residual(), tmp_path / "model.onnx", options=options)
    assert export.form.fp32_parts == ("layer_norm",)
    assert {result.artifact.partition(", ")[2] for result in export.parity} == {"", "rounded as on an accelerator"}


def test_parity_takes_another_tolerance_and_name(tmp_path):
    model = tiny_bert()
    export = onnx_from_model(model, tmp_path / "model.onnx")
    (first, *_) = parity_with_onnx(model, export.path, artifact="mine", tolerance=1e-12)
    assert (first.artifact, first.passed) == ("mine", False)


def test_graph_is_valid_in_half_precision():
    for dialect in Dialect:
        graph = graph_from_model(tiny_bert("masked-lm"), options=GraphOptions(dialect=dialect, dtype=HALF))
        onnx.checker.check_model(ir.to_proto(graph), full_check=True)


def wide_residual():
    """Two terms of a residual sum that fp16 can hold, and whose sum it cannot."""
    model = tiny_bert("encoder")
    with torch.no_grad():
        model.encoder.layer[1].attention.output.dense.bias[0] = 4e4
        model.encoder.layer[0].output.LayerNorm.bias[0] = 4e4
        for linear in ("query", "key", "value"):
            getattr(model.encoder.layer[1].attention.self, linear).weight[:, 0] = 0
    return model
