from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.engine.layers import layers_from_inspector, layers_from_log, prove
from exporter.engine.options import EngineError, EnginePrecision
from exporter.engine.source import EngineSource
from exporter.metadata import GraphMetadata
from pruning.arch import ArchSpec
from tests.exporter.engine.fake_tensorrt import layer_json

NODES = {"half": EnginePrecision.FP16}


def source(products=NODES, attentions=()):
    arch = ArchSpec.from_lists(64, 32, [2], [8])
    return EngineSource(Path("m.onnx"), "0" * 64, GraphMetadata(arch, "encoder"), 40, products, attentions)


def line(name, nodes, inputs=("Half",), weights=()):
    def tensors(kinds):
        return ", ".join(
            f"{{ Name: t, Dimensions: [1,-1,64], Strides: [-1,64,1], Datatype: {kind}, Format: (Linear) Row major }}"
            for kind in kinds
        )

    metadata = "".join(f"[ONNX Layer: {node}]" for node in nodes)
    return (
        f"Name: {name}, LayerType: gemm, Inputs: [ {tensors(inputs)}], Constants: [ {tensors(weights)}], "
        f"Outputs: [ {tensors(['Float'])}], TacticName: t, StreamId: 0, Metadata: {metadata}"
    )


def layers(*lines):
    return layers_from_log(["Formats and tactics selection completed.", "Layers:\n" + "\n".join(lines)])


def test_lines_of_a_log_become_layers():
    (first, second) = layers(
        line("a+b_myl1_4", ["x/MatMul", "y/MatMul"], ["Half", "Int64"], ["Int8", "Float"]),
        "Name: _gemm_mha_v2_myl0_7, LayerType: kgen, Inputs: [], Constants: [], Outputs: [], Metadata: ",
    )
    assert (first.name, first.part, first.is_fused_attention) == ("a+b_myl1_4", "1", False)
    assert first.input_types == {"fp16"}
    assert first.weight_types == {"int8", "fp32"}
    assert first.onnx_nodes == {"x/MatMul", "y/MatMul"}
    assert (second.part, second.is_fused_attention) == ("0", True)


@pytest.mark.parametrize(
    ("description", "kind"),
    [("Half", "fp16"), ("Row major linear FP16 format (kLINEAR)", "fp16"), ("Thirty-two wide Int8 format.", "int8")],
)
def test_the_inspector_describes_types_in_old_and_new_words(description, kind):
    (layer,) = layers_from_inspector(json.dumps({"Layers": [layer_json("name", "node", description)]}))
    assert layer.input_types == {kind}
    assert layer.onnx_nodes == {"node"}
    assert layer.part == ""


@pytest.mark.parametrize("text", ["no json", "{}", '{"Layers": ["only a name"]}'])
def test_inspector_without_details(text):
    with pytest.raises(EngineError, match="inspector does not describe the layers"):
        layers_from_inspector(text)


def test_every_product_is_compared_with_the_graph():
    proof = prove(source(), layers(line("k_myl0_1", ["half"]), line("k_myl1_1", ["half"])), 2)
    assert (proof.precision, proof.layers, proof.attentions) == ("fp16", 2, 0)


def test_a_product_inside_a_layer_norm_counts_by_its_weights():
    assert prove(source(), layers(line("k_myl0_1", ["half"], ["Float"], ["Half"])), 1).precision == "fp16"


def test_an_engine_of_another_precision_is_an_error():
    with pytest.raises(EngineError, match="half is fp16 in the graph and fp32 in the engine; TensorRT ignored"):
        prove(source(), layers(line("k_myl0_1", ["half"], ["Float"], ["Float"])), 1)


def test_one_profile_of_another_precision_is_an_error():
    with pytest.raises(EngineError, match="half is fp16 in the graph and fp16, fp32 in the engine"):
        prove(source(), layers(line("k_myl0_1", ["half"]), line("k_myl1_1", ["half"], ["Float"])), 2)


def test_a_product_without_a_layer_is_not_proven():
    with pytest.raises(EngineError, match="precision of half cannot be proven: it is not among the engine's 1 layers"):
        prove(source(), layers(line("k_myl0_1", ["other"])), 1)


def test_int8_needs_inputs_and_not_only_weights():
    graph = source({"q": EnginePrecision.INT8})
    rescale = line("k_myl0_2", ["q"], ["Half"])
    assert prove(graph, layers(line("k_myl0_1", ["q"], ["Int8"], ["Int8"]), rescale), 1).precision == "int8"
    with pytest.raises(EngineError, match="q is int8 in the graph and fp16 in the engine"):
        prove(graph, layers(line("k_myl0_1", ["q"], ["Half"], ["Int8"])), 1)


def test_attention_counts_if_it_is_fused_in_every_profile():
    graph = source(attentions=("both", "one", "none"))
    found = layers(
        line("k_myl0_1", ["half"]),
        line("_gemm_mha_v2_myl0_2", ["both"]),
        line("_gemm_mha_v2_myl1_2", ["both"]),
        line("_gemm_mha_v2_myl1_3", ["one"]),
        line("softmax_myl0_4", ["none"]),
    )
    proof = prove(graph, found, 2)
    assert proof.unfused == ("one", "none")
    assert str(proof) == "fp16, attention fused in 1 of 3 layers"
