"""An ONNX file as TensorRT's builder sees it: what it must contain, and what the engine must therefore have."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from exporter.engine.options import EnginePrecision
from exporter.metadata import GraphMetadata, metadata_from_props
from exporter.onnx_file import POSITION_TABLE, onnx_from_bytes, position_limit
from exporter.operator_sets import check_operator_sets
from pruning.errors import InputError

STANDARD_DOMAINS = ("", "ai.onnx")
TYPES = {
    onnx.TensorProto.FLOAT: EnginePrecision.FP32,
    onnx.TensorProto.FLOAT16: EnginePrecision.FP16,
    onnx.TensorProto.BFLOAT16: EnginePrecision.BF16,
    onnx.TensorProto.INT8: EnginePrecision.INT8,
}
SAME_WEIGHT = ("Transpose", "Identity", "Cast", "DequantizeLinear")
"""Operators between a stored weight and the product that reads it; the first input is the weight."""


@dataclass(frozen=True)
class EngineSource:
    """An ONNX file of ours, standard operators only.

    Attributes:
        path: the file.
        sha256: of the file.
        metadata: architecture and head.
        max_sequence: the position limit.
        products: node name of every product with a weight, to its precision.
        attentions: node name of every attention (its Softmax, or the fused operator of opset 23).
    """

    path: Path
    sha256: str
    metadata: GraphMetadata
    max_sequence: int
    products: Mapping[str, EnginePrecision]
    attentions: tuple[str, ...]

    @property
    def precision(self) -> EnginePrecision | None:
        """What the products together are: one type, or int8 over fp16; None for any other mixture."""
        found = set(self.products.values())
        if EnginePrecision.INT8 in found and found <= {EnginePrecision.INT8, EnginePrecision.FP16}:
            return EnginePrecision.INT8
        return found.pop() if len(found) == 1 else None


def source_from_onnx(path: Path) -> EngineSource:
    """Read and check an ONNX file.

    Raises:
        InputError: if it is missing, damaged, not written by slimbert, has operators outside the standard domain, or
            operators of no known version, or
            int8 weights in a product whose other input is not quantised.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; pass an ONNX file.")
    content = path.read_bytes()
    model = onnx_from_bytes(content, path)
    metadata = metadata_from_props({prop.key: prop.value for prop in model.metadata_props})
    if metadata is None:
        raise InputError(f"{path} was not written by slimbert; export the checkpoint to ONNX with slimbert first.")
    _check_standard(model, path)
    check_operator_sets(model, path, "TensorRT")
    return EngineSource(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        metadata=metadata,
        max_sequence=_max_sequence(model.graph, path),
        products=_products(model.graph),
        attentions=tuple(node.name for node in model.graph.node if node.op_type in ("Softmax", "Attention")),
    )


def _check_standard(model: onnx.ModelProto, path: Path) -> None:
    foreign = Counter(f"{x.domain}::{x.op_type}" for x in model.graph.node if x.domain not in STANDARD_DOMAINS)
    if foreign:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(foreign.items()))
        raise InputError(
            f"{path} has operators that TensorRT does not read: {counts}. Export it in the standard dialect."
        )


def _max_sequence(graph: onnx.GraphProto, path: Path) -> int:
    limit = position_limit(graph)
    if limit is None:
        raise InputError(f"{path} has no {POSITION_TABLE}: its position limit is unknown. Export it again.")
    return limit


def _products(graph: onnx.GraphProto) -> dict[str, EnginePrecision]:
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    found = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        kind = _weight_type(node.input[1], stored, made_by)
        if kind == EnginePrecision.INT8 and not _is_dequantised(node.input[0], made_by):
            raise InputError(
                f"{node.name} has int8 weights and an input that is not quantised; TensorRT needs Q/DQ on both."
            )
        if kind is not None:
            found[node.name] = kind
    return found


def _is_dequantised(name: str, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    return name in made_by and made_by[name].op_type == "DequantizeLinear"


def _weight_type(name: str, stored: Mapping[str, int], made_by: Mapping[str, onnx.NodeProto]) -> EnginePrecision | None:
    """Type in which a stored weight reaches its product, or None if the name is no stored weight.

    A Cast on the way decides; a DequantizeLinear does not, because TensorRT moves it behind the product.
    """
    cast = None
    while name not in stored:
        node = made_by.get(name)
        if node is None or node.op_type not in SAME_WEIGHT:
            return None
        if node.op_type == "Cast" and cast is None:
            cast = next(attribute.i for attribute in node.attribute if attribute.name == "to")
        name = node.input[0]
    return TYPES.get(stored[name] if cast is None else cast)
