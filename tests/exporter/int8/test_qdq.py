from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from exporter.int8.check import Int8Error, Int8Tolerance, predict_from_proto
from exporter.int8.draft import PRECISION_KEY, SCHEME_KEY
from exporter.int8.options import Int8Options
from exporter.int8.qdq import SMALLEST_SCALE, activation_ranges, qdq_from_onnx
from exporter.int8.source import ProductKind
from exporter.options import GraphOptions
from pruning.errors import InputError
from tests.exporter.int8.files import BATCHES, constants, edited, loose, write_float
from tests.tiny import DENSE_CLASSES

FIRST_INPUT = "embeddings.LayerNorm/LayerNormalization"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_float(tmp_path_factory.mktemp("float") / "model.onnx")


@pytest.fixture(scope="module")
def ranges(source):
    return activation_ranges(source, BATCHES)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("head", DENSE_CLASSES)
def test_every_head_is_close_to_its_source(tmp_path, head, dtype):
    source = write_float(tmp_path / "model.onnx", head, GraphOptions(dtype=dtype))
    ranges = activation_ranges(source, BATCHES)
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, loose(), batches=BATCHES)
    assert export.agreement
    assert (export.scheme, export.left_out) == ("qdq", ())
    model = onnx.load(export.path)
    assert {node.domain for node in model.graph.node} == {""}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_zero_points_are_zero_and_scales_per_column_in_the_base_type(tmp_path, dtype):
    source = write_float(tmp_path / "model.onnx", options=GraphOptions(dtype=dtype))
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", activation_ranges(source, BATCHES))
    stored = constants(export.path)
    nodes = [x for x in onnx.load(export.path).graph.node if x.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        scale, zero = stored[node.input[1]], stored[node.input[2]]
        assert (zero.dtype, zero.shape) == (np.int8, scale.shape)
        assert not zero.any()
        assert scale.dtype == {"fp32": np.float32, "fp16": np.float16}[dtype]
        assert (scale >= SMALLEST_SCALE).all()
    for product in export.products:
        assert stored[f"{product.weight}/int8"].shape == (product.rows, product.columns)
        assert stored[f"{product.weight}/scale"].shape == (product.columns,)
        assert stored[f"{product.input}/scale"].shape == ()
        assert product.weight not in stored


def test_only_weight_products_are_quantised(tmp_path, source, ranges):
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", ranges)
    model = onnx.load(export.path)
    made_by = {node.output[0]: node.op_type for node in model.graph.node}
    inputs = [[made_by.get(name) for name in x.input] for x in model.graph.node if x.op_type == "MatMul"]
    assert inputs.count(["DequantizeLinear", "DequantizeLinear"]) == len(export.products) == 12
    assert len(inputs) == 12 + 2 * 2  # scores and contexts of the two layers with heads
    assert not any("DequantizeLinear" in pair for pair in inputs if pair != ["DequantizeLinear"] * 2)
    assert Counter(x.op_type for x in model.graph.node)["QuantizeLinear"] == 8  # Q, K and V share one


def test_chosen_kinds_alone_are_quantised(tmp_path, source, ranges):
    options = loose(kinds=frozenset({ProductKind.FFN_UP}))
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, options, batches=BATCHES)
    assert {product.kind for product in export.products} == {ProductKind.FFN_UP}
    assert len(export.left_out) == 10
    assert Counter(x.op_type for x in onnx.load(export.path).graph.node)["QuantizeLinear"] == 2


def test_tied_decoder(tmp_path):
    source = write_float(tmp_path / "model.onnx", "masked-lm", tie_word_embeddings=True)
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", activation_ranges(source, BATCHES), loose(), batches=BATCHES)
    decoder = export.products[-1]
    assert decoder.transposed
    assert constants(export.path)[f"{decoder.weight}.T/int8"].shape == (64, decoder.columns)
    assert decoder.weight in constants(export.path)  # the embeddings still look rows up in it


def test_metadata_and_bytes(tmp_path, source, ranges):
    first, second = (qdq_from_onnx(source, tmp_path / name, ranges).path for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()
    props = {prop.key: prop.value for prop in onnx.load(first).metadata_props}
    assert (props[PRECISION_KEY], props[SCHEME_KEY]) == ("int8", "qdq")
    assert props.items() >= {x.key: x.value for x in onnx.load(source).metadata_props}.items()


def test_failed_check_leaves_nothing_behind(tmp_path, source, ranges):
    options = Int8Options(tolerance=Int8Tolerance(relative_error=1e-9))
    with pytest.raises(Int8Error):
        qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, options, batches=BATCHES)
    assert not list(tmp_path.iterdir())


def test_ranges_are_the_largest_magnitudes_at_kept_tokens(source, ranges):
    model = onnx.load(source)
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name=FIRST_INPUT))
    predict = predict_from_proto(model)
    kept = [predict(batch)[FIRST_INPUT][batch["attention_mask"].bool()] for batch in BATCHES]
    assert ranges[FIRST_INPUT] == float(torch.cat(kept).abs().max())
    assert len(ranges) == 8


def test_padding_does_not_count(source):
    batch = {name: tensor[:1].clone() for name, tensor in BATCHES[0].items()}
    batch["attention_mask"][0, 6:] = 0
    other = {name: tensor.clone() for name, tensor in batch.items()}
    other["input_ids"][0, 6:] = 5
    assert activation_ranges(source, [batch]) == pytest.approx(activation_ranges(source, [other]))


def test_percentile_clips_outliers(source, ranges):
    clipped = activation_ranges(source, BATCHES, percentile=99)
    assert clipped.keys() == ranges.keys()
    assert all(0 < clipped[name] < ranges[name] for name in ranges)


def test_text_without_a_token_gives_ranges_that_can_be_stored(tmp_path, source):
    batch = BATCHES[0] | {"attention_mask": torch.zeros_like(BATCHES[0]["attention_mask"])}
    ranges = activation_ranges(source, [batch])
    assert set(ranges.values()) == {0.0}
    assert constants(qdq_from_onnx(source, tmp_path / "i.onnx", ranges).path)[f"{FIRST_INPUT}/scale"] > 0


@pytest.mark.parametrize("percentile", [0, 100.1, math.nan])
def test_percentile_out_of_range(source, percentile):
    with pytest.raises(InputError, match="the percentile must be above 0 and at most 100; got"):
        activation_ranges(source, BATCHES, percentile=percentile)


def test_no_calibration_batch(source):
    with pytest.raises(InputError, match="ranges are measured on real text; pass at least one batch"):
        activation_ranges(source, [])


def test_activation_that_is_not_finite(tmp_path, source):
    def spoil(model):
        (weight,) = [x for x in model.graph.initializer if x.name == "embeddings.LayerNorm.bias"]
        weight.CopyFrom(onnx.numpy_helper.from_array(np.full(64, np.nan, dtype=np.float32), weight.name))

    path = edited(source, tmp_path / "nan.onnx", spoil)
    with pytest.raises(InputError, match=r"is not finite on the calibration text"):
        activation_ranges(path, BATCHES)


def test_missing_range_is_named(tmp_path, source, ranges):
    partial = {name: value for name, value in ranges.items() if name != FIRST_INPUT}
    with pytest.raises(InputError, match=rf"ranges has no {FIRST_INPUT}, the input of .*query/MatMul; measure this"):
        qdq_from_onnx(source, tmp_path / "int8.onnx", partial)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_impossible_range_is_named(tmp_path, source, ranges, value):
    with pytest.raises(InputError, match=rf"the range of {FIRST_INPUT} must be finite and not negative; got {value}"):
        qdq_from_onnx(source, tmp_path / "int8.onnx", ranges | {FIRST_INPUT: value})


def test_contrib_graph_is_refused(tmp_path, ranges):
    source = write_float(tmp_path / "model.onnx", options=GraphOptions(dialect="ort-cpu"))
    with pytest.raises(InputError, match=r"has operators of com\.microsoft, which TensorRT does not know; start from"):
        qdq_from_onnx(source, tmp_path / "int8.onnx", ranges)


def test_embeddings_are_refused(tmp_path, source, ranges):
    with pytest.raises(InputError, match="embeddings stay as they are in a Q/DQ graph; leave the option out"):
        qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, loose(embeddings=True))


def test_fp16_of_an_old_opset_is_refused(tmp_path, ranges):
    def age(model):
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", 18)])

    source = write_float(tmp_path / "model.onnx", options=GraphOptions(dtype="fp16"))
    old = edited(source, tmp_path / "old.onnx", age)
    with pytest.raises(InputError, match=r"has opset 18; Q/DQ over fp16 needs 19 or newer"):
        qdq_from_onnx(old, tmp_path / "int8.onnx", ranges)
