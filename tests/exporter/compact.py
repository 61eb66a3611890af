"""What the exporter's tests share: compact models, and a built graph as a `Predict` without touching the disk."""

from __future__ import annotations

import onnx_ir as ir
import onnxruntime as ort
from transformers import PreTrainedModel

from exporter.graph import graph_from_model
from exporter.options import GraphOptions
from exporter.ort_session import predict_from_session
from exporter.parity import check_parity
from exporter.to_onnx import finite_masking
from pruning.batching import Batch, Predict, predict_from_model
from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from tests.tiny import randomise, tiny_config

SHAPES = {
    "uneven": ([3, 1, 2], [24, 5, 11]),
    "empty attention": ([2, 0, 3], [7, 8, 9]),
    "empty ffn": ([2, 1, 3], [7, 0, 9]),
    "empty first and last layers": ([0, 2, 0], [0, 8, 0]),
    "nothing left": ([0, 0, 0], [0, 0, 0]),
    "one head, one neuron": ([1, 1, 1], [1, 1, 1]),
    "more heads than dense": ([6, 4, 2], [40, 24, 3]),
}


def tiny_compact(head: str, heads: list[int], ffn: list[int], seed: int = 0, **overrides: object) -> PreTrainedModel:
    """A compact BERT in eval mode, every parameter random and large."""
    dense = {k: v for k, v in tiny_config().to_dict().items() if k not in ("model_type", "transformers_version")}
    sizes = {"num_hidden_layers": len(heads), "layer_num_heads": heads, "layer_intermediate_sizes": ffn}
    model = HEAD_CLASSES[head](CompactBertConfig(**(dense | sizes | overrides))).eval()
    randomise(model, seed)
    return model


def predict_from_graph(
    model: PreTrainedModel, opset: int | None = None, options: GraphOptions | None = None
) -> Predict:
    data = ir.to_proto(graph_from_model(model, opset=opset, options=options)).SerializeToString()
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = 1
    session_options.log_severity_level = 3
    return predict_from_session(ort.InferenceSession(data, session_options, providers=["CPUExecutionProvider"]))


def largest_difference(
    model: PreTrainedModel,
    batches: dict[str, Batch],
    opset: int | None = None,
    options: GraphOptions | None = None,
) -> float:
    """Between PyTorch and ONNX Runtime, over all batches."""
    candidate = predict_from_graph(model, opset, options)
    with finite_masking(model):
        results = check_parity(predict_from_model(model), candidate, batches, artifact="graph", tolerance=1e-4)
    return max(result.max_abs_diff for result in results)
