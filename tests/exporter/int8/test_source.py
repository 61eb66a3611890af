from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.source import ProductKind, load_float_graph, opset_of, weight_products
from exporter.options import GraphOptions
from pruning.errors import InputError
from tests.exporter.int8.files import BATCHES, edited, loose, write_float


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_float(tmp_path_factory.mktemp("float") / "model.onnx", "sequence-classification")


def write_foreign(path, nodes, initializers=(), opset=17):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 2])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "foreign", [value], [output], initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def matrix(name="w"):
    return helper.make_tensor(name, TensorProto.FLOAT, [2, 3], [1.0] * 6)


def test_products_of_a_standard_graph(source):
    products = weight_products(load_float_graph(source))
    kinds = [(product.kind, product.rows, product.columns) for product in products]
    assert kinds[:6] == [
        (ProductKind.QKV, 64, 48),
        (ProductKind.QKV, 64, 48),
        (ProductKind.QKV, 64, 48),
        (ProductKind.ATTENTION_OUTPUT, 48, 64),
        (ProductKind.FFN_UP, 64, 96),
        (ProductKind.FFN_DOWN, 96, 64),
    ]
    assert kinds[-2:] == [(ProductKind.HEAD, 64, 64), (ProductKind.HEAD, 64, 2)]
    assert len({product.name for product in products}) == len(products)
    assert len({product.input for product in products[:3]}) == 1


def test_products_of_a_contrib_graph(tmp_path):
    path = write_float(tmp_path / "model.onnx", options=GraphOptions(dialect="ort-cpu"))
    attention = [product for product in weight_products(load_float_graph(path)) if product.kind == ProductKind.QKV]
    assert [(product.rows, product.columns) for product in attention] == [(64, 144), (64, 48)]


def test_attention_of_uneven_widths_has_no_int8_kernel(tmp_path):
    node = helper.make_node(
        "Attention", ["x", "w", "b"], ["y"], domain="com.microsoft", num_heads=1, qkv_hidden_sizes=[1, 1, 1]
    )
    path = write_foreign(tmp_path / "foreign.onnx", [node], [matrix(), helper.make_tensor("b", 1, [3], [0.0] * 3)])
    with pytest.raises(InputError, match="has no product with a constant matrix: there is nothing to quantise"):
        load_float_graph(path)


def test_node_without_a_name_goes_by_its_output(tmp_path):
    path = write_foreign(tmp_path / "foreign.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [matrix()])
    (product,) = weight_products(load_float_graph(path))
    assert (product.name, product.kind, product.rows, product.columns) == ("y", ProductKind.HEAD, 2, 3)


def test_transposed_matrix(tmp_path):
    turned = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [1.0] * 6)
    nodes = [helper.make_node("Transpose", ["w"], ["wt"]), helper.make_node("MatMul", ["x", "wt"], ["y"])]
    (product,) = weight_products(load_float_graph(write_foreign(tmp_path / "foreign.onnx", nodes, [turned])))
    assert (product.weight, product.rows, product.columns, product.transposed) == ("w", 2, 3, True)


def test_file_that_is_not_a_bert_is_refused(tmp_path):
    path = write_foreign(tmp_path / "foreign.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [matrix()])
    with pytest.raises(InputError, match=r"foreign\.onnx is not a BERT: its inputs are x"):
        int8_from_onnx(path, tmp_path / "int8.onnx", loose(), BATCHES)
    assert not (tmp_path / "int8.onnx").exists()


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx does not exist or is not a file; pass an ONNX file"):
        load_float_graph(str(tmp_path / "none.onnx"))


def test_corrupt_file(tmp_path, source):
    path = tmp_path / "cut.onnx"
    path.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"cut\.onnx is not an ONNX file, or a damaged one .*Export or copy it again"):
        load_float_graph(path)


def test_empty_file(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.onnx holds no ONNX graph"):
        load_float_graph(tmp_path / "empty.onnx")


def test_weights_in_other_files_are_refused(tmp_path, source):
    def move_out(model):
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        model.graph.initializer[0].external_data.add(key="location", value="weights.bin")

    model = onnx.load(source)
    move_out(model)
    (tmp_path / "split.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"split\.onnx keeps its weights in other files; export it again as one file"):
        load_float_graph(tmp_path / "split.onnx")


def test_quantised_file_is_refused(tmp_path, source):
    export = int8_from_onnx(source, tmp_path / "int8.onnx", loose(), BATCHES)
    with pytest.raises(
        InputError, match=r"is quantised already \(it has DynamicQuantizeLinear, MatMulInteger\); start"
    ):
        int8_from_onnx(export.path, tmp_path / "again.onnx", loose(), BATCHES)


@pytest.mark.parametrize("opset", [12, 0])
def test_old_opset_is_refused(tmp_path, source, opset):
    def age(model):
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", opset)] if opset else [helper.make_opsetid("other", 1)])

    path = edited(source, tmp_path / "old.onnx", age)
    with pytest.raises(InputError, match=rf"has opset {opset}; int8 needs 13 or newer"):
        load_float_graph(path)
    assert opset_of(onnx.load(source)) == 20
