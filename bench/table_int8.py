"""Probes in int8: what an int8 artifact has of such graphs, without the text that would prove them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import onnx

from exporter.int8.options import Int8Options
from exporter.int8.rewrite import dynamic_int8_graph
from exporter.int8.source import ProductKind, weight_products
from exporter.onnx_file import read_onnx


def quantise_probe(file: Path, kinds: Collection[ProductKind]) -> None:
    """Put the products of some kinds into dynamic int8, in place; a probe without any stays as it is.

    The products and the bits of their weights are those of an exported artifact, so that both take the same time. That
    random weights answer nothing does not matter here: integer kernels take as long for any numbers.
    """
    model = read_onnx(file)
    products = [product for product in weight_products(model) if product.kind in kinds]
    if products:
        onnx.save(dynamic_int8_graph(model, products, limit=Int8Options().limit, embeddings=False), file)
