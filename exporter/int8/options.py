"""What to quantise, and where quantising makes no sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from exporter.int8.check import Int8Tolerance
from exporter.int8.rewrite import FULL_LIMIT, REDUCED_LIMIT
from exporter.int8.source import ProductKind, WeightProduct
from pruning.errors import InputError

ALL_KINDS = frozenset(ProductKind)
DYNAMIC_INT8_REFUSALS = {
    "ort-cuda": "the CUDA provider has no kernels for it, so every product is copied to the CPU and back; use fp16",
    "torch-cpu": "it is a form of ONNX files; use ort-cpu",
    "torch-cuda": "it is a form of ONNX files for CPUs; use fp16",
    "tensorrt": "its parser knows no DynamicQuantizeLinear; use symmetric Q/DQ (qdq_from_onnx) or fp16",
    "tensorrt-rtx": "its parser knows no DynamicQuantizeLinear; use symmetric Q/DQ (qdq_from_onnx) or fp16",
}
"""Runtimes that cannot run dynamic int8, or only badly, and why."""


@dataclass(frozen=True)
class Int8Options:
    """What to quantise: a product is, if its kind is among ``kinds`` and its name among ``products``.

    Args:
        products: names from `weight_products`, or None for all.
        kinds: kinds of products.
        embeddings: store the embedding tables in int8 too, one scale per row: for size, not for speed.
        reduced_range: weights of 7 bits, on by default. CPUs with AVX2 or AVX512 but no VNNI add pairs of products in
            16 bits, which saturates with weights of 8 bits (255 * 127 * 2 > 32767) and not with 7: only then is the
            answer the same on every CPU, and the check here worth something there. Dynamic int8 only.
        tolerance: what int8 may cost.

    Raises:
        InputError: if a kind does not exist, or nothing at all is to be quantised.
    """

    products: frozenset[str] | None = None
    kinds: frozenset[ProductKind] = ALL_KINDS
    embeddings: bool = False
    reduced_range: bool = True
    tolerance: Int8Tolerance = field(default_factory=Int8Tolerance)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - ALL_KINDS)
        if unknown:
            raise InputError(f"unknown kind of product {', '.join(unknown)}; known: {', '.join(sorted(ALL_KINDS))}.")
        if not self.embeddings and (not self.kinds or (self.products is not None and not self.products)):
            raise InputError("nothing is to be quantised; name at least one product and kind, or the embeddings.")

    @property
    def limit(self) -> int:
        """Largest integer of a weight."""
        return REDUCED_LIMIT if self.reduced_range else FULL_LIMIT


def selected_products(available: Sequence[WeightProduct], options: Int8Options) -> tuple[WeightProduct, ...]:
    """The products that the options choose, in order of execution.

    Raises:
        InputError: if a chosen name does not exist, or no product is left and no embeddings either.
    """
    unknown = sorted((options.products or frozenset()) - {product.name for product in available})
    if unknown:
        raise InputError(
            f"there is no product {unknown[0]} ({len(unknown)} unknown); the file has {len(available)}, "
            f"such as {available[0].name}. Take the names from weight_products."
        )
    chosen = tuple(
        product
        for product in available
        if product.kind in options.kinds and (options.products is None or product.name in options.products)
    )
    if not chosen and not options.embeddings:
        raise InputError(f"no product of kind {', '.join(sorted(options.kinds))} is left to quantise; choose others.")
    return chosen


def refuse_dynamic_int8(runtime: str) -> None:
    """Do nothing if dynamic int8 is worth running there.

    Raises:
        InputError: with the reason, if it is not.
    """
    if runtime in DYNAMIC_INT8_REFUSALS:
        raise InputError(f"dynamic int8 does not run on {runtime}: {DYNAMIC_INT8_REFUSALS[runtime]}.")
