"""An int8 graph to a file that is in place only once it passed its check."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import onnx

from exporter.int8.check import Int8Agreement, Int8Tolerance, check_int8, require_int8
from exporter.int8.source import WeightProduct
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.atomic import atomic_file
from pruning.batching import Batch, Predict
from pruning.errors import InputError

PRECISION_KEY, SCHEME_KEY, PRODUCTS_KEY = "slimbert.precision", "slimbert.int8_scheme", "slimbert.int8_products"
DYNAMIC, QDQ = "dynamic", "qdq"
LISTED = 4
"""Names of products that a summary gives."""


@dataclass(frozen=True)
class Int8Export:
    """An int8 file that is in place: which products run in int8 and which stayed, its size, time, and agreement.

    ``agreement`` is empty if no batch was given to check it on.
    """

    path: Path
    scheme: str
    products: tuple[WeightProduct, ...]
    left_out: tuple[WeightProduct, ...]
    bytes: int
    seconds: float
    agreement: tuple[Int8Agreement, ...]

    @property
    def summary(self) -> str:
        """Which products are in int8 and which are not, and the measured error."""
        total = len(self.products) + len(self.left_out)
        kept = f"; left in float: {_listed([product.name for product in self.left_out])}" if self.left_out else ""
        measured = "".join(f"; {result}" for result in self.agreement)
        return f"{self.scheme} int8 in {len(self.products)} of {total} products{kept}{measured}"


@dataclass(frozen=True)
class Int8Check:
    """What a written file is compared with, on which inputs."""

    reference: Predict
    batches: Sequence[Batch]
    tolerance: Int8Tolerance


@dataclass(frozen=True)
class Int8Draft:
    """A graph to be written, and what was done to it."""

    graph: onnx.ModelProto
    scheme: str
    products: tuple[WeightProduct, ...]
    available: tuple[WeightProduct, ...]


def write_int8(draft: Int8Draft, target: Path, check: Int8Check | None, *, start: float) -> Int8Export:
    """Write a draft; the same draft always gives the same bytes.

    Args:
        draft: its metadata are kept, and the precision, scheme and products added.
        target: the file; an older one is replaced only by one that passed.
        check: None if it is checked elsewhere.
        start: `perf_counter` when the work began.

    Raises:
        InputError: if the graph cannot be run.
        Int8Error: if it answers too differently; nothing is left behind.
    """
    _add_metadata(draft)
    with atomic_file(target) as partial:
        partial.write_bytes(draft.graph.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(partial))
        candidate = predict_from_session(session_from_onnx(partial))
        agreement = check_int8(check.reference, candidate, check.batches, check.tolerance) if check else ()
        require_int8(agreement)
        size = partial.stat().st_size
    left_out = tuple(product for product in draft.available if product not in draft.products)
    return Int8Export(target, draft.scheme, draft.products, left_out, size, perf_counter() - start, agreement)


def check_target(source: Path, target: Path) -> None:
    """Do nothing if ``target`` may be written.

    Raises:
        InputError: if it is a folder, or the source itself.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder; pass the file to write, such as {target / 'model_quantized.onnx'}.")
    if target.resolve() == source.resolve():
        raise InputError(f"{target} is the file to quantise; write the int8 model elsewhere.")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _add_metadata(draft: Int8Draft) -> None:
    props = {prop.key: prop.value for prop in draft.graph.metadata_props}
    names = [product.name for product in draft.products]
    props |= {PRECISION_KEY: "int8", SCHEME_KEY: draft.scheme, PRODUCTS_KEY: json.dumps(names)}
    onnx.helper.set_model_props(draft.graph, props)
