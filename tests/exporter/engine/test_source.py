from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from exporter.engine.source import source_from_onnx
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import tiny_bert


@pytest.fixture
def exported(tmp_path):
    return onnx_from_model(tiny_compact("question-answering", [2, 0, 1], [5, 0, 3]), tmp_path / "model.onnx").path


def rewritten(path, change):
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def test_products_and_attentions_of_a_graph(exported):
    source = source_from_onnx(exported)
    assert source.precision == "fp32"
    assert source.metadata.head == "question-answering"
    assert source.max_sequence == 40
    assert len(source.attentions) == 2
    assert len(source.products) == 2 * 4 + 2 * 2 + 1  # Q, K, V, output; FFN; head: scores and context have no weight
    assert len(source.sha256) == 64


def test_half_precision_is_seen(tmp_path):
    export = onnx_from_model(
        tiny_bert(std=0.1), tmp_path / "half.onnx", options=GraphOptions(dtype="fp16", fp32_parts=("softmax",))
    )
    assert source_from_onnx(export.path).precision == "fp16"


def test_a_decoder_tied_to_the_word_embeddings_is_a_product(tmp_path):
    export = onnx_from_model(tiny_bert("masked-lm"), tmp_path / "lm.onnx")
    assert "cls.predictions.decoder/MatMul" in source_from_onnx(export.path).products


def quantise_first_product(model, *, input_too):
    node = next(x for x in model.graph.node if x.op_type == "MatMul")
    rows = numpy_helper.to_array(next(x for x in model.graph.initializer if x.name == node.input[1])).shape
    model.graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in (("q", np.ones(rows, np.int8)), ("scale", np.float32(0.1)), ("zero", np.int8(0)))
    )
    added = [helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w_dq"])]
    if input_too:
        added.append(helper.make_node("QuantizeLinear", [node.input[0], "scale", "zero"], ["x_q"]))
        added.append(helper.make_node("DequantizeLinear", ["x_q", "scale", "zero"], ["x_dq"]))
        node.input[0] = "x_dq"
    node.input[1] = "w_dq"
    model.graph.node.extend(added)
    return node.name


def test_a_quantised_product_is_int8_and_int8_over_fp32_is_no_precision(exported):
    names = []
    rewritten(exported, lambda model: names.append(quantise_first_product(model, input_too=True)))
    source = source_from_onnx(exported)
    assert source.products[names[0]] == "int8"
    assert source.precision is None


def test_a_cast_decides(exported):
    def cast(model):
        node = next(x for x in model.graph.node if x.op_type == "MatMul")
        model.graph.node.append(helper.make_node("Cast", [node.input[1]], ["w_half"], to=onnx.TensorProto.FLOAT16))
        node.input[1] = "w_half"

    rewritten(exported, cast)
    assert set(source_from_onnx(exported).products.values()) == {"fp16", "fp32"}


def test_int8_weights_alone_are_refused(exported):
    rewritten(exported, lambda model: quantise_first_product(model, input_too=False))
    with pytest.raises(InputError, match="has int8 weights and an input that is not quantised; TensorRT needs Q/DQ"):
        source_from_onnx(exported)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx does not exist"):
        source_from_onnx(tmp_path / "none.onnx")


def test_damaged_file(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not an onnx file at all")
    with pytest.raises(InputError, match=r"broken\.onnx is not an ONNX file, or a damaged one"):
        source_from_onnx(path)


def test_foreign_file(exported):
    rewritten(exported, lambda model: model.ClearField("metadata_props"))
    with pytest.raises(InputError, match="was not written by slimbert"):
        source_from_onnx(exported)


def test_contrib_operators_are_named(exported):
    def foreign(model):
        for node in [x for x in model.graph.node if x.op_type == "LayerNormalization"]:
            node.op_type, node.domain = "SkipLayerNormalization", "com.microsoft"

    rewritten(exported, foreign)
    with pytest.raises(
        InputError, match=r"does not read: 7 com.microsoft::SkipLayerNormalization\. Export .* standard"
    ):
        source_from_onnx(exported)


def test_file_without_a_position_table(exported):
    def rename(model):
        for tensor in model.graph.initializer:
            tensor.name = tensor.name.replace("position_embeddings", "places")

    rewritten(exported, rename)
    with pytest.raises(InputError, match="its position limit is unknown"):
        source_from_onnx(exported)
