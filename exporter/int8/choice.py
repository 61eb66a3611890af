"""Which products may run in int8: all but as few as the tolerance demands, those with the largest error left out.

A few products cause most of the error (in BERT often the FFN output of the last layers, whose inputs have outliers:
Bondarenko et al. 2021, arXiv:2109.12948), so leaving one in float may cost little time and repair the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from exporter.int8.check import Int8Agreement, Int8Error, Int8Tolerance, check_int8, predict_from_proto
from exporter.int8.dynamic import load_fp32_graph
from exporter.int8.options import Int8Options, selected_products
from exporter.int8.qdq import check_ranges, load_qdq_graph, qdq_graph
from exporter.int8.rewrite import dynamic_int8_graph
from exporter.int8.source import WeightProduct, weight_products
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.batching import Batch, Predict

Products = tuple[WeightProduct, ...]


@dataclass(frozen=True)
class ProductChoice:
    """The products to quantise, those left in float, and why.

    ``contributions`` is the largest relative error of any output when that product alone runs in int8; empty if
    everything could be quantised at once. What leaving a product out costs in time is for `bench` to measure:
    ``rows * columns`` of each is its work per token.
    """

    products: tuple[WeightProduct, ...]
    left_out: tuple[WeightProduct, ...]
    contributions: Mapping[str, float]
    agreement: tuple[Int8Agreement, ...]

    def to_options(self, options: Int8Options) -> Int8Options:
        """The same options for these products only."""
        return replace(options, products=frozenset(product.name for product in self.products))


def choose_products(
    source: str | Path, batches: Sequence[Batch], options: Int8Options, *, reference: Predict | None = None
) -> ProductChoice:
    """The products to quantise dynamically: all that the options allow, less the worst until it passes.

    One run of the batches if everything passes, else one for each product and one for each that is left out.

    Args:
        source: an fp32 file.
        batches: real text, other than that of the final check.
        options: what may be quantised, and what it may cost.
        reference: the truth; the source itself by default.

    Raises:
        InputError: if the source or the options cannot be used.
        Int8Error: if not even one product can be quantised within the tolerance.
    """
    model = load_fp32_graph(Path(source))

    def quantised(products: Products) -> onnx.ModelProto:
        return dynamic_int8_graph(model, products, limit=options.limit, embeddings=options.embeddings)

    truth = reference or predict_from_session(session_from_onnx(source))
    trial = _Trial(quantised, _remembered(truth, batches), tuple(batches), options.tolerance)
    return _leave_out_worst(trial, selected_products(weight_products(model), options))


def choose_qdq_products(
    source: str | Path, ranges: Mapping[str, float], batches: Sequence[Batch], options: Int8Options
) -> ProductChoice:
    """The same for symmetric Q/DQ with fixed scales, run in ONNX Runtime; the source is the truth.

    Args:
        source: an fp32 or fp16 file of standard operators.
        ranges: from `activation_ranges`.
        batches: real text, other than the calibration's.
        options: what may be quantised, and what it may cost.

    Raises:
        InputError: if the source, the ranges or the options cannot be used.
        Int8Error: if not even one product can be quantised within the tolerance.
    """
    model = load_qdq_graph(Path(source), options)
    products = selected_products(weight_products(model), options)
    check_ranges(products, ranges)

    def quantised(chosen: Products) -> onnx.ModelProto:
        return qdq_graph(model, chosen, ranges)

    truth = predict_from_session(session_from_onnx(source))
    return _leave_out_worst(_Trial(quantised, _remembered(truth, batches), tuple(batches), options.tolerance), products)


@dataclass(frozen=True)
class _Trial:
    """Everything that stays the same from one set of products to the next."""

    quantised: Callable[[Products], onnx.ModelProto]
    reference: Predict
    batches: tuple[Batch, ...]
    tolerance: Int8Tolerance

    def agreement(self, products: Products) -> tuple[Int8Agreement, ...]:
        """How far the model is from the reference with these products in int8."""
        candidate = predict_from_proto(self.quantised(products))
        return check_int8(self.reference, candidate, self.batches, self.tolerance)


def _leave_out_worst(trial: _Trial, products: Products) -> ProductChoice:
    agreement = trial.agreement(products)
    if _passed(agreement):
        return ProductChoice(products, (), {}, agreement)
    contributions = {product.name: _largest_error(trial.agreement((product,))) for product in products}
    worst_first = sorted(products, key=lambda product: -contributions[product.name])
    for count in range(1, len(products)):
        left_out = worst_first[:count]
        kept = tuple(product for product in products if product not in left_out)
        agreement = trial.agreement(kept)
        if _passed(agreement):
            return ProductChoice(kept, tuple(left_out), contributions, agreement)
    raise Int8Error([result for result in agreement if not result.passed])


def _remembered(reference: Predict, batches: Sequence[Batch]) -> Predict:
    """The reference's answers to these batches, computed once."""
    answers = {id(batch): reference(batch) for batch in batches}
    return lambda batch: answers[id(batch)]


def _passed(agreement: Sequence[Int8Agreement]) -> bool:
    return all(result.passed for result in agreement)


def _largest_error(agreement: Sequence[Int8Agreement]) -> float:
    return max(result.relative_error for result in agreement)
