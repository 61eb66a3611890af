from __future__ import annotations

import onnx
import pytest

from exporter.int8 import choice as choosing
from exporter.int8.check import Int8Error, Int8Tolerance
from exporter.int8.choice import choose_products, choose_qdq_products
from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.options import Int8Options
from exporter.int8.qdq import activation_ranges, qdq_from_onnx
from exporter.int8.source import ProductKind
from pruning.errors import InputError
from tests.exporter.int8.files import ANYTHING, BATCHES, edited, write_float

OUTLIER = "encoder.layer.0.output.dense/MatMul"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model one of whose products has an input with an outlier so large that 8 bits hold nothing else."""
    folder = tmp_path_factory.mktemp("float")

    def add_outlier(model):
        (bias,) = [x for x in model.graph.initializer if x.name == "encoder.layer.0.intermediate.dense.bias"]
        values = onnx.numpy_helper.to_array(bias).copy()
        values[0] = 2000.0
        bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
        (down,) = [x for x in model.graph.initializer if x.name == "encoder.layer.0.output.dense.weight.T"]
        values = onnx.numpy_helper.to_array(down).copy()
        values[0] = 0.0
        down.CopyFrom(onnx.numpy_helper.from_array(values, down.name))

    return edited(write_float(folder / "plain.onnx"), folder / "outlier.onnx", add_outlier)


def test_only_the_product_with_outliers_is_left_out(tmp_path, source):
    options = Int8Options(tolerance=Int8Tolerance(relative_error=0.05))
    with pytest.raises(Int8Error):
        int8_from_onnx(source, tmp_path / "int8.onnx", options, BATCHES)
    choice = choose_products(source, BATCHES, options)
    assert [product.name for product in choice.left_out] == [OUTLIER]
    assert max(choice.contributions, key=choice.contributions.get) == OUTLIER
    assert len(choice.contributions) == len(choice.products) + 1
    export = int8_from_onnx(source, tmp_path / "int8.onnx", choice.to_options(options), BATCHES)
    assert export.products == choice.products
    assert export.agreement == choice.agreement


def test_everything_is_quantised_if_it_passes_at_once(source, monkeypatch):
    asked = []
    original = choosing.dynamic_int8_graph
    monkeypatch.setattr(
        choosing, "dynamic_int8_graph", lambda *args, **kwargs: asked.append(args) or original(*args, **kwargs)
    )
    choice = choose_products(source, BATCHES, Int8Options(tolerance=ANYTHING))
    assert (choice.left_out, dict(choice.contributions)) == ((), {})
    assert len(choice.products) == 12
    assert len(asked) == 1


def test_only_allowed_products_are_considered(source):
    options = Int8Options(kinds=frozenset({ProductKind.FFN_DOWN}), tolerance=Int8Tolerance(relative_error=0.05))
    choice = choose_products(source, BATCHES, options)
    assert [product.name for product in choice.left_out] == [OUTLIER]
    assert {product.kind for product in choice.products} == {ProductKind.FFN_DOWN}


@pytest.mark.parametrize("kinds", [frozenset(ProductKind), frozenset({ProductKind.QKV})])
def test_tolerance_that_no_product_meets(source, kinds):
    options = Int8Options(kinds=kinds, tolerance=Int8Tolerance(relative_error=1e-9))
    with pytest.raises(Int8Error, match="int8 costs more than the tolerance"):
        choose_products(source, BATCHES, options)


def test_no_batch_is_refused(source):
    with pytest.raises(InputError, match="pass at least one batch"):
        choose_products(source, [], Int8Options())


def test_products_of_a_qdq_graph_are_chosen_alike(tmp_path, source):
    options = Int8Options(tolerance=Int8Tolerance(relative_error=0.1))
    ranges = activation_ranges(source, BATCHES)
    with pytest.raises(Int8Error):
        qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, options, batches=BATCHES)
    choice = choose_qdq_products(source, ranges, BATCHES, options)
    assert [product.name for product in choice.left_out] == [OUTLIER]
    export = qdq_from_onnx(source, tmp_path / "int8.onnx", ranges, choice.to_options(options), batches=BATCHES)
    assert (export.products, export.agreement) == (choice.products, choice.agreement)


def test_missing_range_is_named_before_anything_runs(source):
    with pytest.raises(InputError, match="ranges has no embeddings"):
        choose_qdq_products(source, {}, BATCHES, Int8Options())
