"""Which kinds of product are worth running in int8 on this machine: measured by the caller, not believed.

Quantising costs a pass over the activations. A product whose inputs are few or whose matrix is small may take longer in
int8 than in fp32: then it is better left alone, in fp32 and exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from exporter.fastest import Compare, Speedup
from exporter.int8.dynamic import load_fp32_graph
from exporter.int8.options import Int8Options, selected_products
from exporter.int8.rewrite import dynamic_int8_graph
from exporter.int8.source import ProductKind, WeightProduct, weight_products


@dataclass(frozen=True)
class KindWorth:
    """How much faster the whole graph is with the products of one kind in int8, all others being in int8."""

    kind: ProductKind
    speedup: Speedup

    @property
    def worth_it(self) -> bool:
        """Whether int8 measured faster."""
        return self.speedup.value > 1.0


def measure_kinds(source: str | Path, options: Int8Options, compare: Compare) -> tuple[KindWorth, ...]:
    """Time the graph with each kind of product in int8 and in fp32.

    Args:
        source: an fp32 file.
        options: what may be quantised.
        compare: times two files; its ratio is above 1 if the first one, with the kind in int8, is faster.

    Raises:
        InputError: if the source or the options cannot be used.
    """
    model = load_fp32_graph(Path(source))
    products = selected_products(weight_products(model), options)

    def write(chosen: Sequence[WeightProduct], path: Path) -> Path:
        onnx.save(dynamic_int8_graph(model, chosen, limit=options.limit, embeddings=options.embeddings), path)
        return path

    with TemporaryDirectory(prefix="slimbert-int8-") as folder:
        everything = write(products, Path(folder, "all.onnx"))
        return tuple(
            KindWorth(kind, compare(everything, write(_without(products, kind), Path(folder, f"no-{kind}.onnx"))))
            for kind in ProductKind
            if kind in {product.kind for product in products}
        )


def worthwhile_options(options: Int8Options, found: Sequence[KindWorth]) -> Int8Options:
    """The options without the kinds that are not faster; unchanged if none is, because a small file is worth having."""
    kinds = frozenset(worth.kind for worth in found if worth.worth_it)
    return replace(options, kinds=kinds) if kinds else options


def _without(products: Sequence[WeightProduct], kind: ProductKind) -> list[WeightProduct]:
    return [product for product in products if product.kind != kind]
