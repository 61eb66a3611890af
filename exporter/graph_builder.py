"""Nodes and initializers of an ONNX graph, each under a readable name.

Only what BERT needs, on the public classes of onnx-ir. A node and its output share the name ``<where>/<op>``;
an initializer keeps the name of the parameter it came from, with ``.T`` appended if transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

ONNX_FLOAT = ir.DataType.FLOAT


@final
class GraphBuilder:
    """Appends nodes in order of execution and turns parameters into initializers, once each.

    The weights are read only when the graph is serialised, one tensor at a time: a built graph costs no memory.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.nodes: list[ir.Node] = []
        self._weights = weights
        self._node_names: set[str] = set()
        self._initializers: dict[str, ir.Value] = {}

    @property
    def initializers(self) -> list[ir.Value]:
        """Weights and constants, in order of first use."""
        return list(self._initializers.values())

    def op(self, op_type: str, where: str, *inputs: ir.Value, **attributes: object) -> ir.Value:
        """Append a node with one output."""
        return self._append(op_type, where, inputs, attributes, 1)[0]

    def split(self, where: str, x: ir.Value, parts: int) -> tuple[ir.Value, ...]:
        """Equal parts of the last axis."""
        return self._append("Split", where, (x,), {"axis": -1, "num_outputs": parts}, parts)

    def linear(self, name: str, x: ir.Value, scale: float = 1.0) -> ir.Value:
        """``scale * (x W^T + b)`` for the `torch.nn.Linear` called ``name``; x (..., in), result (..., out)."""
        product = self.op("MatMul", name, x, self.transposed(f"{name}.weight", scale))
        return self.op("Add", name, product, self.weight(f"{name}.bias", scale))

    def layer_norm(self, name: str, x: ir.Value, epsilon: float) -> ir.Value:
        """LayerNorm over the last axis, with the weight and bias of the module called ``name``."""
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", name, x, scale, bias, axis=-1, epsilon=epsilon)

    def weight(self, name: str, scale: float = 1.0) -> ir.Value:
        """The parameter called ``name``, times ``scale``."""
        stored = name if scale == 1.0 else f"{name}.scaled"
        return self._parameter(stored, self._weights[name].shape, lambda: self._weights[name] * scale)

    def transposed(self, name: str, scale: float = 1.0) -> ir.Value:
        """The matrix called ``name`` (out, in) as (in, out), times ``scale``: the layout that MatMul wants."""
        stored = f"{name}.T" if scale == 1.0 else f"{name}.T.scaled"
        rows, cols = self._weights[name].shape
        return self._parameter(stored, (cols, rows), lambda: self._weights[name].T * scale)

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

    def scalar(self, name: str, value: float) -> ir.Value:
        """A constant float32 number."""
        return self._constant(name, np.array(value, dtype=np.float32))

    def _append(
        self,
        op_type: str,
        where: str,
        inputs: tuple[ir.Value, ...],
        attributes: Mapping[str, object],
        outputs: int,
    ) -> tuple[ir.Value, ...]:
        name = f"{where}/{op_type}"
        assert name not in self._node_names, f"two nodes are called {name}"
        self._node_names.add(name)
        node = ir.node(op_type, inputs, attributes or None, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = name if outputs == 1 else f"{name}_{index}"
        self.nodes.append(node)
        return tuple(node.outputs)

    def _parameter(self, name: str, shape: tuple[int, ...], read: Callable[[], Tensor]) -> ir.Value:
        def tensor() -> ir.TensorProtocol:
            return ir.tensor(read().detach().to("cpu", torch.float32).contiguous(), name=name)

        return self._initializer(name, ir.LazyTensor(tensor, ONNX_FLOAT, ir.Shape(shape), name=name))

    def _constant(self, name: str, values: np.ndarray) -> ir.Value:
        return self._initializer(name, ir.tensor(values, name=name))

    def _initializer(self, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        if name not in self._initializers:
            self._initializers[name] = ir.Value(
                name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
            )
        return self._initializers[name]
