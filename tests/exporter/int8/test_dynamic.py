from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from exporter.describe import describe_onnx
from exporter.int8.check import Int8Error, Int8Tolerance
from exporter.int8.draft import PRECISION_KEY, PRODUCTS_KEY, SCHEME_KEY
from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.options import Int8Options, refuse_dynamic_int8
from exporter.int8.rewrite import FULL_LIMIT, REDUCED_LIMIT, symmetric_columns
from exporter.int8.source import ProductKind, load_float_graph, weight_products
from exporter.metadata import metadata_from_props
from exporter.options import GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.errors import InputError
from tests.exporter.int8.files import ANYTHING, BATCHES, constants, edited, loose, write_float
from tests.tiny import DENSE_CLASSES

STRICT = Int8Tolerance(relative_error=1e-9)
PRODUCT_OPS = {"MatMulInteger", "QAttention"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_float(tmp_path_factory.mktemp("float") / "model.onnx")


@pytest.fixture(scope="module")
def contrib(tmp_path_factory):
    return write_float(tmp_path_factory.mktemp("contrib") / "model.onnx", options=GraphOptions(dialect="ort-cpu"))


@pytest.fixture(scope="module")
def export(tmp_path_factory, source):
    return int8_from_onnx(source, tmp_path_factory.mktemp("int8") / "int8.onnx", loose(), BATCHES)


def operators(path):
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("dialect", ["standard", "ort-cpu"])
@pytest.mark.parametrize("head", DENSE_CLASSES)
def test_every_head_is_close_to_its_source_under_every_mask(tmp_path, head, dialect):
    float_file = write_float(tmp_path / "model.onnx", head, GraphOptions(dialect=dialect))
    export = int8_from_onnx(float_file, tmp_path / "int8.onnx", loose(), BATCHES)
    assert export.agreement
    assert not export.left_out
    expected, found = (predict_from_session(session_from_onnx(x))(BATCHES[3]) for x in (float_file, export.path))
    for name, value in expected.items():
        assert not torch.equal(found[name], value)
        assert float((found[name] - value).norm() / value.norm()) < 0.2


def test_fused_attention_stays_fused_in_int8(tmp_path, contrib):
    described = describe_onnx(int8_from_onnx(contrib, tmp_path / "int8.onnx", loose(), BATCHES).path)
    assert described.nodes["com.microsoft::QAttention"] == 2
    assert (described.fused_attention, described.attention_layers) == (2, 2)


def test_weights_are_signed_with_one_scale_per_column(source, export):
    stored, original = constants(export.path), constants(source)
    assert export.products
    for product in export.products:
        integers, scale = stored[f"{product.weight}.int8"], stored[f"{product.weight}.scale"]
        assert integers.dtype == np.int8
        assert integers.shape == (product.rows, product.columns)
        assert scale.shape == (product.columns,)
        assert (np.abs(integers).max(axis=0) == 63).all()
        assert np.abs(integers * scale - original[product.weight]).max() <= scale.max() / 2 * 1.001
        assert product.weight not in stored


def test_zero_points_of_weights_are_left_out_which_means_zero(export):
    nodes = [node for node in onnx.load(export.path).graph.node if node.op_type == "MatMulInteger"]
    assert len(nodes) == len(export.products)
    assert {len(node.input) for node in nodes} == {3}


def test_fused_attention_becomes_integer_attention_with_its_attributes(tmp_path, contrib):
    export = int8_from_onnx(contrib, tmp_path / "int8.onnx", loose(), BATCHES)
    before = [node for node in onnx.load(contrib).graph.node if node.op_type == "Attention"]
    after = [node for node in onnx.load(export.path).graph.node if node.op_type == "QAttention"]
    assert len(after) == len(before) == 2
    for float_node, node in zip(before, after, strict=True):
        assert node.output == float_node.output
        assert list(node.attribute) == list(float_node.attribute)
    assert "Attention" not in operators(export.path)
    assert next(x.shape for name, x in constants(export.path).items() if name.endswith(".scale")) == (3 * 3 * 16,)


def test_activation_that_three_products_read_is_quantised_once(export):
    found = operators(export.path)
    # Layer 0: input of Q, K and V, attention output, FFN up and down; layer 1: two; layer 2: two.
    assert (found["MatMulInteger"], found["DynamicQuantizeLinear"]) == (12, 8)


def test_metadata_are_kept_and_the_products_listed(source, export):
    before, after = ({x.key: x.value for x in onnx.load(path).metadata_props} for path in (source, export.path))
    assert metadata_from_props(after) == metadata_from_props(before) is not None
    assert (after[PRECISION_KEY], after[SCHEME_KEY]) == ("int8", "dynamic")
    assert json.loads(after[PRODUCTS_KEY]) == [product.name for product in export.products]


def test_same_file_gives_the_same_bytes(tmp_path, source):
    options = loose(embeddings=True)
    first, second = (int8_from_onnx(source, tmp_path / name, options, BATCHES).path for name in ("a.onnx", "b.onnx"))
    assert first.read_bytes() == second.read_bytes()


def test_chosen_kinds_alone_are_quantised(tmp_path, source):
    kinds = frozenset({ProductKind.FFN_UP, ProductKind.FFN_DOWN})
    export = int8_from_onnx(source, tmp_path / "int8.onnx", loose(kinds=kinds), BATCHES)
    assert {product.kind for product in export.products} == kinds
    assert {product.kind for product in export.left_out} == {ProductKind.QKV, ProductKind.ATTENTION_OUTPUT}
    assert operators(export.path)["MatMulInteger"] == len(export.products) == 4


def test_chosen_products_alone_are_quantised(tmp_path, source):
    name = "encoder.layer.0.output.dense/MatMul"
    export = int8_from_onnx(source, tmp_path / "int8.onnx", loose(products=frozenset({name})), BATCHES)
    assert [product.name for product in export.products] == [name]
    assert {x for x in constants(export.path) if x.endswith(".int8")} == {"encoder.layer.0.output.dense.weight.T.int8"}
    assert "encoder.layer.0.intermediate.dense.weight.T" in constants(export.path)


def test_embeddings_in_int8_make_the_file_smaller_and_stay_close(tmp_path):
    source = write_float(tmp_path / "model.onnx", vocab_size=500)
    plain = int8_from_onnx(source, tmp_path / "plain.onnx", loose(), BATCHES)
    small = int8_from_onnx(source, tmp_path / "small.onnx", loose(embeddings=True), BATCHES)
    assert small.bytes < plain.bytes - 500 * 64 * 2.5
    assert small.agreement[0].relative_error < plain.agreement[0].relative_error + 0.05
    stored = constants(small.path)
    assert stored["embeddings.word_embeddings.weight.int8"].dtype == np.int8
    assert stored["embeddings.word_embeddings.weight.row_scale"].shape == (500, 1)
    assert "embeddings.word_embeddings.weight" not in stored


def test_embeddings_alone(tmp_path, source):
    export = int8_from_onnx(source, tmp_path / "int8.onnx", Int8Options(kinds=frozenset(), embeddings=True), BATCHES)
    assert not export.products
    assert PRODUCT_OPS.isdisjoint(operators(export.path))
    assert export.agreement[0].relative_error < 0.02


def test_tied_decoder_is_quantised_the_way_round_it_is_multiplied(tmp_path):
    source = write_float(tmp_path / "model.onnx", "masked-lm", tie_word_embeddings=True)
    (decoder,) = [x for x in weight_products(load_float_graph(source)) if x.name.endswith("decoder/MatMul")]
    assert (decoder.transposed, decoder.kind) == (True, ProductKind.HEAD)
    export = int8_from_onnx(source, tmp_path / "int8.onnx", loose(embeddings=True), BATCHES)
    assert constants(export.path)[f"{decoder.weight}.T.int8"].shape == (64, decoder.columns)
    assert decoder.weight not in constants(export.path)
    transposes = [x for x in onnx.load(export.path).graph.node if x.op_type == "Transpose" and "decoder" in x.name]
    assert not transposes


def test_full_range_uses_all_bits(tmp_path, source):
    export = int8_from_onnx(source, tmp_path / "int8.onnx", loose(reduced_range=False, tolerance=ANYTHING), BATCHES)
    assert {np.abs(x).max() for name, x in constants(export.path).items() if name.endswith(".int8")} == {127}


def test_seven_bits_cannot_saturate_sums_of_two_products_in_16_bits():
    assert 255 * REDUCED_LIMIT * 2 <= np.iinfo(np.int16).max < 255 * FULL_LIMIT * 2


def test_answers_are_those_of_exact_integer_arithmetic(export):
    inputs = {name: tensor.numpy() for name, tensor in BATCHES[1].items()}
    (exact,) = ReferenceEvaluator(onnx.load(export.path)).run(None, inputs)
    found = predict_from_session(session_from_onnx(export.path))(BATCHES[1])["last_hidden_state"].numpy()
    # A rounding that falls the other way moves an activation by one step; saturation would move it by many.
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) < 0.005


def test_columns_of_zeros_and_of_subnormal_numbers_survive():
    matrix = np.array([[0.0, 1e-44, 2.0], [0.0, 0.0, -1.0]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integers, scale = symmetric_columns(matrix, 127)
    assert integers.tolist() == [[0, 0, 127], [0, 0, -64]]
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


def test_failed_check_leaves_nothing_behind(tmp_path, source):
    with pytest.raises(Int8Error, match=r"int8 costs more than the tolerance \(last_hidden_state: relative error"):
        int8_from_onnx(source, tmp_path / "int8.onnx", Int8Options(tolerance=STRICT), BATCHES)
    assert not list(tmp_path.iterdir())


def test_failed_check_keeps_the_older_file(tmp_path, source):
    path = tmp_path / "int8.onnx"
    path.write_bytes(b"older")
    with pytest.raises(Int8Error):
        int8_from_onnx(source, path, Int8Options(tolerance=STRICT), BATCHES)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_other_reference_is_the_truth(tmp_path, source):
    ones = {"last_hidden_state": torch.ones(8, 12, 64)}
    with pytest.raises(Int8Error, match="cosine"):
        int8_from_onnx(source, tmp_path / "int8.onnx", loose(), BATCHES, reference=lambda batch: ones)


def test_export_says_how_long_and_how_large(tmp_path, source):
    export = int8_from_onnx(str(source), str(tmp_path / "new" / "int8.onnx"), loose(), BATCHES)
    assert export.bytes == export.path.stat().st_size < source.stat().st_size * 0.6
    assert export.seconds > 0


def test_inner_shapes_which_lead_to_slow_kernels_are_left_out(tmp_path, source):
    def infer_shapes(model):
        model.CopyFrom(onnx.shape_inference.infer_shapes(model))

    shaped = edited(source, tmp_path / "shaped.onnx", infer_shapes)
    assert onnx.load(shaped).graph.value_info
    export = int8_from_onnx(shaped, tmp_path / "int8.onnx", loose(), BATCHES)
    assert not onnx.load(export.path).graph.value_info


def test_nothing_is_printed_or_logged(tmp_path, source, capfd, caplog):
    int8_from_onnx(source, tmp_path / "int8.onnx", loose(), BATCHES)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_folder_as_target_is_refused(tmp_path, source):
    with pytest.raises(InputError, match=r"is a folder; pass the file to write, such as .*model_quantized\.onnx"):
        int8_from_onnx(source, tmp_path, loose(), BATCHES)


def test_source_as_target_is_refused(source):
    with pytest.raises(InputError, match=r"is the file to quantise; write the int8 model elsewhere"):
        int8_from_onnx(source, source, loose(), BATCHES)


def test_no_batch_is_refused(tmp_path, source):
    with pytest.raises(InputError, match="int8 is checked on real text; pass at least one batch"):
        int8_from_onnx(source, tmp_path / "int8.onnx", loose(), [])
    assert not list(tmp_path.iterdir())


def test_fp16_is_refused(tmp_path):
    source = write_float(tmp_path / "model.onnx", options=GraphOptions(dtype="fp16"))
    with pytest.raises(InputError, match=r"is fp16; dynamic int8 starts from the fp32 file"):
        int8_from_onnx(source, tmp_path / "int8.onnx", loose(), BATCHES)


def test_weight_that_is_not_finite_is_refused(tmp_path, source):
    def spoil(model):
        (weight,) = [x for x in model.graph.initializer if x.name == "encoder.layer.0.output.dense.weight.T"]
        values = np.full(tuple(weight.dims), np.nan, dtype=np.float32)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    path = edited(source, tmp_path / "nan.onnx", spoil)
    with pytest.raises(InputError, match=r"the weight encoder\.layer\.0\.output\.dense\.weight\.T holds NaN"):
        int8_from_onnx(path, tmp_path / "int8.onnx", loose(), BATCHES)


def test_unknown_product_is_named(tmp_path, source):
    options = loose(products=frozenset({"nobody"}))
    with pytest.raises(InputError, match=r"there is no product nobody \(1 unknown\); the file has 12, such as encoder"):
        int8_from_onnx(source, tmp_path / "int8.onnx", options, BATCHES)


def test_no_product_left_is_refused(tmp_path, source):
    options = loose(kinds=frozenset({ProductKind.HEAD}))
    with pytest.raises(InputError, match="no product of kind head is left to quantise"):
        int8_from_onnx(source, tmp_path / "int8.onnx", options, BATCHES)


def test_unknown_kind_is_named():
    with pytest.raises(InputError, match="unknown kind of product convolution; known: attention-output, ffn-down"):
        Int8Options(kinds=frozenset({"convolution"}))


@pytest.mark.parametrize("nothing", [{"kinds": frozenset()}, {"products": frozenset()}])
def test_nothing_to_quantise_is_refused(nothing):
    with pytest.raises(InputError, match="nothing is to be quantised"):
        Int8Options(**nothing)
    assert replace(Int8Options(embeddings=True), **nothing).embeddings


@pytest.mark.parametrize("runtime", ["ort-cuda", "tensorrt", "tensorrt-rtx", "torch-cpu", "torch-cuda"])
def test_runtimes_without_dynamic_int8_are_refused_with_the_reason(runtime):
    with pytest.raises(InputError, match=rf"dynamic int8 does not run on {runtime}: .*use "):
        refuse_dynamic_int8(runtime)


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino"])
def test_runtimes_with_dynamic_int8(runtime):
    refuse_dynamic_int8(runtime)
