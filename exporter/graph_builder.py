"""Nodes and initializers of an ONNX graph, each under a readable name.

Only what BERT needs, on the public classes of onnx-ir. A node and its output share the name ``<where>/<op>``;
an initializer keeps the name of the parameter it came from, with ``.T`` appended if transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

ONNX_FLOAT = ir.DataType.FLOAT
TORCH_TYPES = {ONNX_FLOAT: torch.float32, ir.DataType.FLOAT16: torch.float16}


@final
class GraphBuilder:
    """Appends nodes in order of execution and turns parameters into initializers, once each.

    The weights are read only when the graph is serialised, one tensor at a time: a built graph costs no memory.
    They are cast by PyTorch, after any arithmetic in their own type.

    Args:
        weights: parameters by name.
        float_type: of the weights, of constants and of what flows between the nodes.
        norm_type: of residual sums and LayerNorm; another one than ``float_type`` is cast to and back.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        float_type: ir.DataType = ONNX_FLOAT,
        norm_type: ir.DataType = ONNX_FLOAT,
    ) -> None:
        self.nodes: list[ir.Node] = []
        self.float_type, self.norm_type = float_type, norm_type
        self._weights = weights
        self._node_names: set[str] = set()
        self._initializers: dict[str, ir.Value] = {}

    @property
    def initializers(self) -> list[ir.Value]:
        """Weights and constants, in order of first use."""
        return list(self._initializers.values())

    def op(
        self, op_type: str, where: str, *inputs: ir.Value | None, domain: str = "", **attributes: object
    ) -> ir.Value:
        """Append a node with one output; an input left out is None."""
        return self._append(f"{where}/{op_type}", ir.node(op_type, inputs, attributes or None, domain=domain))[0]

    def split(self, where: str, x: ir.Value, parts: int) -> tuple[ir.Value, ...]:
        """Equal parts of the last axis."""
        attributes = {"axis": -1, "num_outputs": parts}
        return self._append(f"{where}/Split", ir.node("Split", [x], attributes, num_outputs=parts))

    def cast(self, where: str, x: ir.Value, source: ir.DataType, target: ir.DataType) -> ir.Value:
        """``x`` of type ``source`` as ``target``: itself if the two are one."""
        return x if source == target else self.op("Cast", where, x, to=target)

    def product(self, name: str, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """``scale * x W^T`` for the `torch.nn.Linear` called ``name``; x (..., in), result (..., out)."""
        return self.op("MatMul", name, x, self.transposed([f"{name}.weight"], scale))

    def linear(self, name: str, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """``scale * (x W^T + b)`` for the `torch.nn.Linear` called ``name``; x (..., in), result (..., out)."""
        return self.op("Add", name, self.product(name, x, scale), self.vector([f"{name}.bias"], scale))

    def widened(self, where: str, x: ir.Value) -> ir.Value:
        """``x`` in the type of LayerNorm."""
        return self.cast(f"{where}.widened", x, self.float_type, self.norm_type)

    def layer_norm(self, name: str, x: ir.Value, epsilon: float) -> ir.Value:
        """LayerNorm over the last axis of a `widened` ``x``, with the weight and bias of the module called ``name``."""
        scale, bias = (self._stored(f"{name}.{part}", self.norm_type) for part in ("weight", "bias"))
        normed = self.op("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=epsilon)
        return self.cast(f"{name}.output", normed, self.norm_type, self.float_type)

    def scale_and_shift(self, name: str, x: ir.Value) -> ir.Value:
        """A `widened` ``x`` times weight plus bias of the module called ``name``: a norm that was trained away."""
        scale, bias = (self._stored(f"{name}.{part}", self.norm_type) for part in ("weight", "bias"))
        shifted = self.op("Add", name, self.op("Mul", name, x, scale), bias)
        return self.cast(f"{name}.output", shifted, self.norm_type, self.float_type)

    def weight(self, name: str) -> ir.Value:
        """The parameter called ``name``, as it is."""
        return self._stored(name)

    def vector(self, names: Sequence[str], scale: float = 1.0) -> ir.Value:
        """The vectors called ``names`` one after the other, times ``scale``."""
        size = sum(self._weights[name].numel() for name in names)
        stored = f"{'+'.join(names)}{'' if scale == 1.0 else '.scaled'}"
        return self._parameter(stored, (size,), lambda: self._scaled(names, scale))

    def transposed(self, names: Sequence[str], scale: float = 1.0) -> ir.Value:
        """Matrices (out, in) as one of (in, out + out + ...), times ``scale``: the layout that MatMul wants."""
        cols, rows = self._weights[names[0]].shape[1], sum(self._weights[name].shape[0] for name in names)
        stored = f"{'+'.join(names)}.T{'' if scale == 1.0 else '.scaled'}"
        return self._parameter(stored, (cols, rows), lambda: self._scaled(names, scale).T)

    def share_memory(self, first: str, second: str) -> bool:
        """Whether two parameters are one tensor, as tied weights are."""
        return self._weights[first].data_ptr() == self._weights[second].data_ptr()

    def integers(self, *values: int) -> ir.Value:
        """A constant int64 vector."""
        name = f"integers_{'_'.join(map(str, values))}"
        return self._constant(name, np.array(values, dtype=np.int64))

    def index(self, value: int) -> ir.Value:
        """A constant int64 number: Gather with it drops the axis."""
        return self._constant(f"index_{value}", np.array(value, dtype=np.int64))

    def scalar(self, name: str, value: float, dtype: ir.DataType | None = None) -> ir.Value:
        """A constant number, of the graph's float type unless told otherwise."""
        return self._constant(name, np.array(value, dtype=(dtype or self.float_type).numpy()))

    def _append(self, name: str, node: ir.Node) -> tuple[ir.Value, ...]:
        assert name not in self._node_names, f"two nodes are called {name}"
        self._node_names.add(name)
        node.name = name
        for index, value in enumerate(node.outputs):
            value.name = name if len(node.outputs) == 1 else f"{name}_{index}"
        self.nodes.append(node)
        return tuple(node.outputs)

    def _scaled(self, names: Sequence[str], scale: float) -> Tensor:
        """Parameters one after the other, times ``scale``; a single one that is not scaled is not copied."""
        parts = [self._weights[name] for name in names]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined if scale == 1.0 else joined * scale

    def _stored(self, name: str, dtype: ir.DataType | None = None) -> ir.Value:
        return self._parameter(name, self._weights[name].shape, lambda: self._weights[name], dtype)

    def _parameter(
        self, name: str, shape: tuple[int, ...], read: Callable[[], Tensor], dtype: ir.DataType | None = None
    ) -> ir.Value:
        dtype = dtype or self.float_type

        def tensor() -> ir.TensorProtocol:
            return ir.tensor(read().detach().to("cpu", TORCH_TYPES[dtype]).contiguous(), name=name)

        return self._initializer(name, ir.LazyTensor(tensor, dtype, ir.Shape(shape), name=name))

    def _constant(self, name: str, values: np.ndarray) -> ir.Value:
        return self._initializer(name, ir.tensor(values, name=name))

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        if name not in self._initializers:
            self._initializers[name] = ir.Value(
                name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
            )
        return self._initializers[name]
