"""A built graph run in PyTorch, operator by operator, rounding to fp16 wherever the graph says fp16.

ONNX Runtime's CPU provider computes an fp16 graph in float32 and drops the casts between its operators: a sum that
overflows on an accelerator is finite there. So it proves the wiring and the weights of an fp16 graph, not its range.
Here every value has the type that the graph gives it; as on accelerators, products accumulate in float32, and
LayerNorm and a fused attention are float32 inside. Slow, and only for the operators that the exporter writes.
Letters: B batch, S sequence, Q queries, E hidden, H heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor
from torch.nn import functional as F

from pruning.batching import Batch, Predict

TYPES = {
    ir.DataType.BOOL: torch.bool,
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
}
Kernel = Callable[..., Tensor | tuple[Tensor, ...]]
"""Inputs in order, attributes by name; an input left out is None."""


def predict_from_graph(graph: ir.Model) -> Predict:
    """The graph as a `Predict` that rounds as it is written. The weights are read once."""
    weights = {name: _tensor(value) for name, value in graph.graph.initializers.items()}
    output_names = [str(value.name) for value in graph.graph.outputs]

    def predict(batch: Batch) -> dict[str, Tensor]:
        values: dict[str, Tensor] = weights | batch
        with torch.no_grad():
            for node in graph.graph:
                _run(node, values)
        return {name: values[name] for name in output_names}

    return predict


def _run(node: ir.Node, values: dict[str, Tensor]) -> None:
    inputs = [None if value is None else values[str(value.name)] for value in node.inputs]
    attributes: dict[str, Any] = {name: attribute.value for name, attribute in node.attributes.items()}
    found = KERNELS[node.op_type](*inputs, **attributes)
    outputs = found if isinstance(found, tuple) else (found,)
    values.update({str(value.name): output for value, output in zip(node.outputs, outputs, strict=True)})


def _tensor(value: ir.Value) -> Tensor:
    assert value.const_value is not None
    return torch.from_numpy(value.const_value.numpy().copy())


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return (a.float() @ b.float()).to(a.dtype)


def _layer_norm(x: Tensor, scale: Tensor, bias: Tensor, *, axis: int = -1, epsilon: float) -> Tensor:
    assert axis == -1
    return F.layer_norm(x.float(), scale.shape, scale.float(), bias.float(), epsilon).to(x.dtype)


def _skip_layer_norm(*inputs: Tensor, epsilon: float) -> Tensor:
    """The sum is rounded to the type of the graph, which is the worse of what CUDA kernels do."""
    x, skip, scale, shift, bias = inputs
    return _layer_norm(x + bias + skip, scale, shift, epsilon=epsilon)


def _attention(  # the inputs of the operator
    x: Tensor, weight: Tensor, bias: Tensor, mask: Tensor, *, num_heads: int, mask_filter_value: float
) -> Tensor:
    query, key, value = _matmul(x, weight).chunk(3, dim=-1)  # each (B, S, H D)
    return _multi_head_attention(
        query, key, value, bias, mask, num_heads=num_heads, mask_filter_value=mask_filter_value
    )


def _multi_head_attention(  # noqa: PLR0913  # the inputs of the operator
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    mask: Tensor,
    *,
    num_heads: int,
    mask_filter_value: float,
) -> Tensor:
    """``mask``: (B, S), or the number of tokens in each row, (B,)."""
    query, key, value = (
        (x + part).view(*x.shape[:2], num_heads, -1).transpose(1, 2).float()  # (B, H, Q or S, D)
        for x, part in zip((query, key, value), bias.chunk(3), strict=True)
    )
    keep = mask.bool() if mask.dim() == 2 else torch.arange(key.shape[2]) < mask[:, None]  # (B, S)
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    weights = scores.masked_fill(~keep[:, None, None], mask_filter_value).softmax(-1)  # (B, H, Q, S)
    context: Tensor = weights @ value  # (B, H, Q, D)
    return context.transpose(1, 2).flatten(2).to(bias.dtype)


def _slice(x: Tensor, start: Tensor, end: Tensor, axis: Tensor) -> Tensor:
    return x.narrow(int(axis), int(start), int(end) - int(start))


def _reshape(x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    for axis in axes.tolist():
        x = x.unsqueeze(axis)
    return x


KERNELS: dict[str, Kernel] = {
    "Add": torch.add,
    "Attention": _attention,
    "BiasGelu": lambda x, bias: F.gelu(x + bias),
    "Cast": lambda x, *, to: x.to(TYPES[ir.DataType(to)]),
    "Div": torch.div,
    "FastGelu": lambda x, bias: F.gelu(x + bias, approximate="tanh"),
    "Gather": lambda x, index, *, axis=0: x[index] if axis == 0 else x.select(axis, int(index)),
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "LayerNormalization": _layer_norm,
    "MatMul": _matmul,
    "Max": torch.maximum,
    "Mul": torch.mul,
    "MultiHeadAttention": _multi_head_attention,
    "ReduceL2": lambda x, axes, *, keepdims: x.norm(dim=axes.tolist(), keepdim=bool(keepdims)),
    "ReduceSum": lambda x, axes, *, keepdims: x.sum(axes.tolist(), keepdim=bool(keepdims)),
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": lambda x, *, start, end: torch.tensor(x.shape[start:end]),
    "SkipLayerNormalization": _skip_layer_norm,
    "Slice": _slice,
    "Softmax": lambda x, *, axis: x.softmax(axis),
    "Split": lambda x, *, axis, num_outputs: x.chunk(num_outputs, dim=axis),
    "Squeeze": lambda x, axes: x.squeeze(int(axes)),
    "Tanh": torch.tanh,
    "Transpose": lambda x, *, perm: x.permute(*perm),
    "Unsqueeze": _unsqueeze,
    "Where": torch.where,
}
"""What the exporter writes, and no more."""
