"""Kinds of product that are not faster in int8 stay in fp32."""

from __future__ import annotations

import onnx

from exporter.fastest import Speedup
from exporter.int8.options import Int8Options
from exporter.int8.source import ProductKind, weight_products
from exporter.int8.worth import measure_kinds, worthwhile_options
from exporter.to_onnx import onnx_from_model
from tests.tiny import tiny_bert


def kinds_in_float(path):
    return {product.kind for product in weight_products(onnx.load(path))}


def test_each_kind_is_timed_with_and_without_int8(tmp_path):
    source = onnx_from_model(tiny_bert(), tmp_path / "m.onnx").path
    seen = []

    def compare(everything, without):
        assert kinds_in_float(everything) == set()
        (kind,) = kinds_in_float(without)
        seen.append(kind)
        return Speedup(0.9, 0.8, 1.0) if kind == ProductKind.HEAD else Speedup(1.2, 1.1, 1.3)

    found = measure_kinds(source, Int8Options(), compare)
    assert [worth.kind for worth in found] == seen == list(ProductKind)
    options = worthwhile_options(Int8Options(embeddings=True), found)
    assert options == Int8Options(kinds=frozenset(ProductKind) - {ProductKind.HEAD}, embeddings=True)


def test_a_small_file_is_worth_having_where_nothing_is_faster(tmp_path):
    source = onnx_from_model(tiny_bert(), tmp_path / "m.onnx").path
    found = measure_kinds(source, Int8Options(), lambda everything, without: Speedup(0.9, 0.8, 1.0))
    assert worthwhile_options(Int8Options(), found) == Int8Options()
