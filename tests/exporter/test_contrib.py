"""The fused graph answers like the model for every head, layer size and mask, and is fused in every layer."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.contrib import ContribOperators, CpuOperators
from exporter.fused import FusionError, fused_heads
from exporter.graph import graph_from_model
from exporter.graph_builder import ONNX_FLOAT
from exporter.options import GraphOptions
from exporter.parity import is_right_padded, parity_batches
from exporter.standard import StandardOperators
from exporter.to_onnx import onnx_from_model
from tests.exporter.compact import SHAPES, largest_difference, tiny_compact
from tests.tiny import DENSE_CLASSES, VOCAB, tiny_batch, tiny_bert

HEADS = list(DENSE_CLASSES)
FUSED = ["ort-cpu", "ort-cuda"]
CASES = parity_batches(len(VOCAB), 40, seed=1)
RIGHT_PADDED = {case: batch for case, batch in CASES.items() if is_right_padded(batch["attention_mask"])}


def proto_of(model, **options):
    return ir.to_proto(graph_from_model(model, options=GraphOptions(**options)))


def operators(proto):
    return [node.op_type for node in proto.graph.node]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dialect", FUSED)
def test_dense_graph_answers_like_the_model(head, dialect):
    assert largest_difference(tiny_bert(head), CASES, options=GraphOptions(dialect=dialect)) < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dialect", FUSED)
def test_compact_graph_answers_like_the_model_and_is_fused(head, shape, dialect):
    model = tiny_compact(head, *SHAPES[shape])
    assert largest_difference(model, CASES, options=GraphOptions(dialect=dialect)) < 1e-4
    assert fused_heads(proto_of(model, dialect=dialect)) == tuple(x for x in SHAPES[shape][0] if x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", ["sequence-classification", "encoder"])
@pytest.mark.parametrize("dialect", FUSED)
def test_lengths_answer_like_the_model_for_right_padding(head, shape, dialect):
    assert "row without a token" in RIGHT_PADDED
    options = GraphOptions(dialect=dialect, right_padding=True)
    assert largest_difference(tiny_compact(head, *SHAPES[shape]), RIGHT_PADDED, options=options) < 1e-4


sizes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=4)


@settings(max_examples=20, deadline=None)
@given(
    sizes=sizes,
    head=st.sampled_from(HEADS),
    head_dim=st.sampled_from([1, 3, 4, 8]),
    rows=st.integers(1, 5),
    length=st.integers(1, 40),
    padding=st.sampled_from(["none", "right", "left", "holes"]),
    dialect=st.sampled_from(FUSED),
)
def test_graph_answers_like_the_model_for_any_shape_and_mask(sizes, head, head_dim, rows, length, padding, dialect):
    heads, ffn = (list(x) for x in zip(*sizes, strict=True))
    model = tiny_compact(head, heads, ffn, head_dim=head_dim)
    batches = {"drawn": tiny_batch(rows, max(length, 2), padding=padding)}
    assert largest_difference(model, batches, options=GraphOptions(dialect=dialect)) < 1e-4


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations(activation):
    model = tiny_bert("masked-lm", hidden_act=activation)
    assert largest_difference(model, CASES, options=GraphOptions(dialect="ort-cpu")) < 1e-4


def test_cpu_flavour_adds_and_normalises_apart():
    found = operators(proto_of(tiny_bert("encoder"), dialect="ort-cpu"))
    assert (found.count("Attention"), found.count("BiasGelu"), found.count("LayerNormalization")) == (3, 3, 7)
    assert "SkipLayerNormalization" not in found


def test_cuda_flavour_skips():
    found = operators(proto_of(tiny_bert("encoder"), dialect="ort-cuda"))
    assert (found.count("Attention"), found.count("BiasGelu"), found.count("SkipLayerNormalization")) == (3, 3, 6)
    assert found.count("LayerNormalization") == 1


def test_onnx_runtime_leaves_the_cpu_flavour_as_it_is(tmp_path):
    """Its optimiser could put the slow SkipLayerNormalization back."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    data = proto_of(tiny_bert("encoder"), dialect="ort-cpu").SerializeToString()
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found = operators(onnx.load(tmp_path / "optimised.onnx"))
    assert "SkipLayerNormalization" not in found
    assert found.count("Attention") == 3


def test_queries_keys_and_values_are_one_matrix():
    proto = proto_of(tiny_compact("encoder", [3, 1], [2, 2]), dialect="ort-cpu")
    weights = {tuple(x.dims) for x in proto.graph.initializer if "self.query.weight+" in x.name}
    assert weights == {(16, 36), (16, 12)}


@pytest.mark.parametrize("dialect", FUSED)
def test_export_states_that_attention_is_fused(tmp_path, dialect):
    model = tiny_compact("sequence-classification", [3, 0, 1, 2], [2, 2, 2, 2])
    export = onnx_from_model(model, tmp_path / "model.onnx", options=GraphOptions(dialect=dialect))
    assert (export.fused_attention, export.attention_layers) == (3, 3)
    assert export.fusion == "attention fused in 3 of 3 layers"
    assert {result.artifact for result in export.parity} == {f"onnx fp32 {dialect}"}


def test_standard_export_states_that_attention_is_not_fused(tmp_path):
    export = onnx_from_model(tiny_compact("encoder", [3, 0], [2, 2]), tmp_path / "model.onnx")
    assert export.fusion == "attention fused in 0 of 1 layers"


def test_right_padding_is_recorded_and_other_masks_are_left_out_of_its_parity(tmp_path):
    options = GraphOptions(dialect="ort-cpu", right_padding=True)
    export = onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=options)
    assert export.form.right_padding
    cases = {result.case for result in export.parity}
    assert cases >= {"right padding", "row without a token"}
    assert cases.isdisjoint({"left padding", "holes"})


@pytest.mark.parametrize("dialect", FUSED)
def test_same_model_gives_the_same_bytes(tmp_path, dialect):
    options = GraphOptions(dialect=dialect, dtype="fp16")
    first = onnx_from_model(tiny_bert(), tmp_path / "first.onnx", options=options)
    second = onnx_from_model(tiny_bert(), tmp_path / "second.onnx", options=options)
    assert first.path.read_bytes() == second.path.read_bytes()


def test_attention_of_primitives_is_not_taken_for_fused(tmp_path, monkeypatch):
    def as_standard(ops):
        return StandardOperators(ops.g, ops.spec, ONNX_FLOAT)

    monkeypatch.setattr(ContribOperators, "mask", lambda ops, mask: as_standard(ops).mask(mask))
    monkeypatch.setattr(CpuOperators, "attention", lambda ops, *inputs: as_standard(ops).attention(*inputs))
    with pytest.raises(FusionError, match=r"attention fused in 0 of 3 layers, with \[\] heads where the model has \[4"):
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=GraphOptions(dialect="ort-cpu"))
    assert not list(tmp_path.iterdir())


def test_a_head_count_that_is_not_the_layers_is_found(tmp_path, monkeypatch):
    right = ContribOperators.attention

    def wrong(ops, *inputs):
        context = right(ops, *inputs)
        context.producer().attributes["num_heads"] = ir.AttrInt64("num_heads", 2)
        return context

    monkeypatch.setattr(CpuOperators, "attention", wrong)
    with pytest.raises(FusionError, match=r"in 3 of 3 layers, with \[2, 2, 2\] heads where the model has \[4, 4, 4\]"):
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx", options=GraphOptions(dialect="ort-cpu"))
