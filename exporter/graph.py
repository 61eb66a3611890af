"""The ONNX graph of a dense or compact BERT, built from its architecture and weights.

Built, not traced: the graph has no dimension that a tracer specialised, no node that a fuser must find again, and
layers of different sizes cost nothing. One description of BERT (``sublayers.py``, ``heads.py``), two dialects:
standard operators, which ONNX Runtime, OpenVINO and TensorRT all parse (``standard.py``), and ONNX Runtime's fused ones
(``contrib.py``).
"""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_ir as ir
from transformers import PretrainedConfig, PreTrainedModel

from exporter.contrib import CpuOperators, CudaOperators
from exporter.dialect import ACTIVATIONS, EncoderSpec, Operators
from exporter.fused import CONTRIB
from exporter.graph_builder import ONNX_FLOAT, GraphBuilder
from exporter.heads import HEAD_OUTPUTS, sentence_embedding
from exporter.metadata import PRODUCER, GraphForm, GraphMetadata, producer_version
from exporter.options import DEFAULT_OPSET, OPSETS, Dialect, Dtype, Fp32Part, GraphOptions
from exporter.standard import StandardOperators
from exporter.sublayers import encoder_states
from pruning.config import LAYER_NORM
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model, reads_first_token

__all__ = ["DEFAULT_OPSET", "INPUT_NAMES", "OPSETS", "encoder_spec", "graph_from_model"]

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
FLOAT_TYPES = {Dtype.FP32: ONNX_FLOAT, Dtype.FP16: ir.DataType.FLOAT16}


def graph_from_model(
    model: PreTrainedModel, *, opset: int | None = None, options: GraphOptions | None = None
) -> ir.Model:
    """The model as an ONNX graph; the weights are referred to, not copied.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 (batch, sequence), any sizes up to the
    position limit. Outputs as in `pruning.batching.OUTPUT_NAMES`, float32, and ``sentence_embedding`` if asked
    for. Every mask is right unless ``options.right_padding``: padding on either side, holes, rows without a token.
    Positions count from 0, padding included, as in BERT.

    Args:
        model: a dense or compact BERT with one of the five supported heads.
        opset: in place of ``options.opset``.
        options: dialect, precision and masks.

    Raises:
        InputError: if the opset or anything about the model is not supported; it is named.
    """
    options = resolved_options(options, opset)
    head, spec = head_from_model(model), encoder_spec(model, options)
    ops = _operators(model, spec, options)
    inputs = [ir.val(name, ir.DataType.INT64, ["batch", "sequence"]) for name in INPUT_NAMES]
    outputs = _outputs(ops, head, model.config, inputs, options)
    imports = {"": options.opset} | ({CONTRIB: 1} if options.fused else {})
    graph = ir.Graph(
        inputs, outputs, nodes=ops.g.nodes, initializers=ops.g.initializers, opset_imports=imports, name=head
    )
    return ir.Model(
        graph,
        ir_version=onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", options.opset)]),
        producer_name=PRODUCER,
        producer_version=producer_version(),
        metadata_props=GraphMetadata(spec.arch, head, _form(spec, options)).to_props(),
    )


def resolved_options(options: GraphOptions | None, opset: int | None) -> GraphOptions:
    """The options, or the defaults, with ``opset`` in them if it is given."""
    options = options or GraphOptions()
    return options if opset is None else replace(options, opset=opset)


def encoder_spec(model: PreTrainedModel, options: GraphOptions | None = None) -> EncoderSpec:
    """What the graph needs to know beside the weights.

    Raises:
        InputError: if the activation, position embeddings, kind of attention or pooling are not supported.
    """
    config, head, options = model.config, head_from_model(model), options or GraphOptions()
    if config.hidden_act not in ACTIVATIONS:
        raise InputError(f"hidden_act {config.hidden_act!r} cannot be exported; supported: {', '.join(ACTIVATIONS)}.")
    # transformers 5 dropped the field, and a compact configuration has neither it nor the decoder's.
    positions = getattr(config, "position_embedding_type", "absolute")
    if positions != "absolute":
        raise InputError(f"position_embedding_type {positions!r} cannot be exported; supported: absolute.")
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise InputError("a decoder, or cross attention, cannot be exported; only BERT encoders are supported.")
    if options.pooling and head != "encoder":
        raise InputError(f"pooling makes sentence embeddings of a bare encoder; this model has the head {head}.")
    return EncoderSpec(
        prefix="" if head == "encoder" else f"{model.base_model_prefix}.",
        arch=arch_from_model(model),
        epsilon=config.layer_norm_eps,
        activation=config.hidden_act,
        first_token=options.first_token and reads_first_token(model),
        normalised=getattr(config, "norm_type", LAYER_NORM) == LAYER_NORM,  # a dense configuration has no such field
    )


def _operators(model: PreTrainedModel, spec: EncoderSpec, options: GraphOptions) -> Operators:
    fp32_parts, float_type = options.fp32_parts or (), FLOAT_TYPES[options.dtype]
    norm_type = ONNX_FLOAT if Fp32Part.LAYER_NORM in fp32_parts else float_type
    softmax_type = ONNX_FLOAT if Fp32Part.SOFTMAX in fp32_parts else float_type
    g = GraphBuilder(model.state_dict(), float_type, norm_type)
    if options.dialect == Dialect.ORT_CPU:
        return CpuOperators(g, spec, options.right_padding)
    if options.dialect == Dialect.ORT_CUDA:
        return CudaOperators(g, spec, options.right_padding)
    return StandardOperators(g, spec, softmax_type)


def _outputs(
    ops: Operators, head: str, config: PretrainedConfig, inputs: list[ir.Value], options: GraphOptions
) -> list[ir.Value]:
    """Everything from the graph's inputs to its named outputs, float32."""
    states = encoder_states(ops, *inputs)
    named = HEAD_OUTPUTS[head](ops, states)
    outputs = {name: ops.g.cast(f"{name}.output", x, ops.g.float_type, ONNX_FLOAT) for name, x in named.items()}
    dims = dict.fromkeys(outputs, _output_dims(head, config))
    if options.pooling:
        outputs["sentence_embedding"] = sentence_embedding(ops, outputs["last_hidden_state"], inputs[1])
        dims["sentence_embedding"] = ["batch", config.hidden_size]
    for name, value in outputs.items():
        value.name, value.type, value.shape = name, ir.TensorType(ONNX_FLOAT), ir.Shape(dims[name])
    return list(outputs.values())


def _form(spec: EncoderSpec, options: GraphOptions) -> GraphForm:
    return GraphForm(
        dialect=options.dialect.value,
        dtype=options.dtype.value,
        right_padding=options.right_padding,
        first_token=spec.first_token,
        pooling=options.pooling.value if options.pooling else None,
        fp32_parts=tuple(part.value for part in options.fp32_parts or ()),
    )


def _output_dims(head: str, config: PretrainedConfig) -> list[str | int]:
    last = {
        "encoder": [config.hidden_size],
        "question-answering": [],
        "masked-lm": [config.vocab_size],
    }.get(head, [config.num_labels])
    return ["batch", *last] if head == "sequence-classification" else ["batch", "sequence", *last]
