"""The layers that an engine really has: their types, and whether attention is one kernel.

TensorRT describes the layers of an engine in its build log (``ProfilingVerbosity.DETAILED``, one line each) and through
its engine inspector (JSON, needs a GPU). Both name the ONNX nodes that a layer computes, so that what was asked for can
be compared node by node with what was built, in every optimization profile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.engine.options import EngineError, EnginePrecision
from exporter.engine.source import EngineSource

TYPE_WORDS = {
    "Float": EnginePrecision.FP32,
    "FP32": EnginePrecision.FP32,
    "Half": EnginePrecision.FP16,
    "FP16": EnginePrecision.FP16,
    "BFloat16": EnginePrecision.BF16,
    "BF16": EnginePrecision.BF16,
    "Int8": EnginePrecision.INT8,
    "INT8": EnginePrecision.INT8,
}
WIDTH = {EnginePrecision.INT8: 1, EnginePrecision.FP16: 2, EnginePrecision.BF16: 2, EnginePrecision.FP32: 4}
FUSED_ATTENTION = "mha"
"""Part of the name of every fused attention kernel (``_gemm_mha_v2``, ``fmha``)."""
LAYER_LINE = re.compile(
    r"^\s*Name: (?P<name>.*?), LayerType: \w*, Inputs: \[(?P<inputs>.*?)\], "
    r"(Constants: \[(?P<weights>.*?)\], )?Outputs: "
)
DATATYPE = re.compile(r"Datatype: ([^,}]*)")
ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
PART = re.compile(r"_myl(\d+)_\d+$")


@dataclass(frozen=True)
class EngineLayer:
    """One kernel: its name, floating-point and int8 types of inputs and weights, the ONNX nodes it computes."""

    name: str
    input_types: frozenset[EnginePrecision]
    weight_types: frozenset[EnginePrecision]
    onnx_nodes: frozenset[str]

    @property
    def part(self) -> str:
        """Which compiled part of the engine it belongs to: each profile has its own."""
        match = PART.search(self.name)
        return match[1] if match else ""

    @property
    def is_fused_attention(self) -> bool:
        """Whether it computes scores, softmax and context at once."""
        return FUSED_ATTENTION in self.name


@dataclass(frozen=True)
class EngineProof:
    """What the layers say: the precision of the products, and in how many layers with heads attention is fused.

    ``unfused`` names the attentions that are not one kernel in every profile.
    """

    precision: EnginePrecision
    layers: int
    attentions: int
    unfused: tuple[str, ...]

    @property
    def fused_attentions(self) -> int:
        """Attentions that are one kernel in every profile."""
        return self.attentions - len(self.unfused)

    def __str__(self) -> str:
        return f"{self.precision}, attention fused in {self.fused_attentions} of {self.attentions} layers"


def layers_from_log(messages: Iterable[str]) -> tuple[EngineLayer, ...]:
    """Layers listed in the messages of a verbose build log; the lines of other messages are ignored."""
    matches = ((line, LAYER_LINE.match(line)) for text in messages for line in text.splitlines())
    return tuple(
        EngineLayer(
            name=match["name"],
            input_types=_types(DATATYPE.findall(match["inputs"])),
            weight_types=_types(DATATYPE.findall(match["weights"] or "")),
            onnx_nodes=frozenset(ONNX_NODE.findall(line)),
        )
        for line, match in matches
        if match
    )


def layers_from_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Layers in the JSON of TensorRT's engine inspector.

    Raises:
        EngineError: if the engine does not describe its layers in detail.
    """
    try:
        return tuple(_layer_from_json(layer) for layer in json.loads(text)["Layers"])
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"TensorRT's inspector does not describe the layers ({error!r}): {text[:200]}") from error


def prove(source: EngineSource, layers: Sequence[EngineLayer], profiles: int) -> EngineProof:
    """Compare an engine's layers with the graph that it was built from.

    Args:
        source: the graph.
        layers: of the engine, all profiles.
        profiles: how many optimization profiles it has.

    Raises:
        EngineError: if a product is missing among the layers, or has another precision than in the graph.
    """
    for node, wanted in source.products.items():
        found = _product_types(node, layers)
        if not found:
            raise EngineError(
                f"the precision of {node} cannot be proven: it is not among the engine's {len(layers)} layers."
            )
        if found != {wanted}:
            seen = ", ".join(sorted(found))
            raise EngineError(f"{node} is {wanted} in the graph and {seen} in the engine; TensorRT ignored its type.")
    assert source.precision is not None
    fused = {node: _fused_parts(node, layers) for node in source.attentions}
    unfused = tuple(node for node, parts in fused.items() if parts < profiles)
    return EngineProof(source.precision, len(layers), len(source.attentions), unfused)


def _product_types(node: str, layers: Sequence[EngineLayer]) -> set[EnginePrecision]:
    """Precision of one product in each part of the engine: the narrowest type among inputs and weights.

    The narrowest, because kernels that rescale an int8 product afterwards name the same node, and because a product
    with one row is computed inside the LayerNorm before it, whose input is fp32. Weights in int8 alone are no
    int8 product: some part must also read int8 inputs.
    """
    own = [layer for layer in layers if node in layer.onnx_nodes]
    parts: dict[str, set[EnginePrecision]] = {}
    for layer in own:
        parts.setdefault(layer.part, set()).update(layer.input_types | layer.weight_types)
    found = {min(types, key=lambda kind: WIDTH[kind]) for types in parts.values() if types}
    if any(EnginePrecision.INT8 in layer.input_types for layer in own):
        return found
    return {EnginePrecision.FP16 if kind == EnginePrecision.INT8 else kind for kind in found}


def _fused_parts(node: str, layers: Sequence[EngineLayer]) -> int:
    return sum(layer.is_fused_attention and node in layer.onnx_nodes for layer in layers)


def _layer_from_json(layer: Mapping[str, Any]) -> EngineLayer:
    return EngineLayer(
        name=layer["Name"],
        input_types=_types(_descriptions(layer["Inputs"])),
        weight_types=_types(_descriptions(layer.get("Constants", ()))),
        onnx_nodes=frozenset(ONNX_NODE.findall(layer.get("Metadata", ""))),
    )


def _descriptions(tensors: Iterable[Mapping[str, object]]) -> list[str]:
    """The key is Datatype, or Format/Datatype in older versions."""
    return [str(value) for tensor in tensors for key, value in tensor.items() if key.endswith("Datatype")]


def _types(descriptions: Iterable[str]) -> frozenset[EnginePrecision]:
    words = (word for text in descriptions for word in re.findall(r"\w+", text))
    return frozenset(TYPE_WORDS[word] for word in words if word in TYPE_WORDS)
