"""The ONNX graph of a dense or compact BERT, built from its architecture and weights.

Built, not traced: the graph has no dimension that a tracer specialised, no node that a fuser must find again, and
layers of different sizes cost nothing. Standard operators only, so ONNX Runtime, OpenVINO and TensorRT all parse it.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from transformers import PretrainedConfig, PreTrainedModel

from exporter.graph_builder import ONNX_FLOAT, GraphBuilder
from exporter.heads import HEAD_OUTPUTS
from exporter.metadata import PRODUCER, GraphMetadata, producer_version
from exporter.sublayers import ACTIVATIONS, EncoderSpec, encoder_states
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
OPSETS = (20, 21, 22, 23)
"""Gelu needs 20; newer ones only narrow who can read the file."""
DEFAULT_OPSET = 20


def graph_from_model(model: PreTrainedModel, *, opset: int = DEFAULT_OPSET) -> ir.Model:
    """The model as an ONNX graph; the weights are referred to, not copied.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 (batch, sequence), any sizes up to the
    position limit. Outputs as in `pruning.batching.OUTPUT_NAMES`, float32. Every mask is right: padding on
    either side, holes, rows without a token. Positions count from 0, padding included, as in BERT.

    Args:
        model: a dense or compact BERT with one of the five supported heads.
        opset: version of the standard operators, one of `OPSETS`.

    Raises:
        InputError: if the opset or anything about the model is not supported; it is named.
    """
    head, spec = head_from_model(model), encoder_spec(model)
    _check_opset(opset)
    g = GraphBuilder(model.state_dict())
    inputs = [ir.val(name, ir.DataType.INT64, ["batch", "sequence"]) for name in INPUT_NAMES]
    states = encoder_states(g, spec, *inputs)
    outputs = HEAD_OUTPUTS[head](g, spec, states)
    for name, value in outputs.items():
        value.name, value.type = name, ir.TensorType(ONNX_FLOAT)
        value.shape = ir.Shape(_output_dims(head, model.config))
    graph = ir.Graph(
        inputs,
        list(outputs.values()),
        nodes=g.nodes,
        initializers=g.initializers,
        opset_imports={"": opset},
        name=head,
    )
    return ir.Model(
        graph,
        ir_version=onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]),
        producer_name=PRODUCER,
        producer_version=producer_version(),
        metadata_props=GraphMetadata(spec.arch, head).to_props(),
    )


def encoder_spec(model: PreTrainedModel) -> EncoderSpec:
    """What the graph needs to know beside the weights.

    Raises:
        InputError: if the activation, position embeddings or kind of attention are not supported.
    """
    config = model.config
    if config.hidden_act not in ACTIVATIONS:
        raise InputError(f"hidden_act {config.hidden_act!r} cannot be exported; supported: {', '.join(ACTIVATIONS)}.")
    # transformers 5 dropped the field, and a compact configuration has neither it nor the decoder's.
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError(f"position_embedding_type {positions!r} cannot be exported; supported: absolute.")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise InputError("a decoder, or cross attention, cannot be exported; only BERT encoders are supported.")
    prefix = "" if head_from_model(model) == "encoder" else f"{model.base_model_prefix}."
    return EncoderSpec(prefix, arch_from_model(model), config.layer_norm_eps, config.hidden_act)


def _check_opset(opset: int) -> None:
    if opset not in OPSETS:
        raise InputError(f"the opset must be one of {', '.join(map(str, OPSETS))}; got {opset}.")


def _output_dims(head: str, config: PretrainedConfig) -> list[str | int]:
    last = {
        "encoder": [config.hidden_size],
        "question-answering": [],
        "masked-lm": [config.vocab_size],
    }.get(head, [config.num_labels])
    return ["batch", *last] if head == "sequence-classification" else ["batch", "sequence", *last]
