from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.graph import INPUT_NAMES, OPSETS, graph_from_model
from exporter.parity import parity_batches
from pruning.errors import InputError
from tests.exporter.compact import SHAPES, largest_difference, predict_from_graph, tiny_compact
from tests.tiny import DENSE_CLASSES, VOCAB, tiny_batch, tiny_bert

HEADS = list(DENSE_CLASSES)
CASES = parity_batches(len(VOCAB), 40, seed=1)


@pytest.mark.parametrize("head", HEADS)
def test_dense_graph_answers_like_the_model(head):
    assert largest_difference(tiny_bert(head), CASES) < 1e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("head", HEADS)
def test_compact_graph_answers_like_the_model(head, shape):
    assert largest_difference(tiny_compact(head, *SHAPES[shape]), CASES) < 1e-4


sizes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=4)


@settings(max_examples=20, deadline=None)
@given(
    sizes=sizes,
    head=st.sampled_from(HEADS),
    head_dim=st.sampled_from([1, 3, 4, 8]),
    rows=st.integers(1, 5),
    length=st.integers(1, 40),
    padding=st.sampled_from(["none", "right", "left"]),
    seed=st.integers(0, 9),
)
def test_graph_answers_like_the_model_for_any_shape_and_mask(sizes, head, head_dim, rows, length, padding, seed):
    heads, ffn = (list(x) for x in zip(*sizes, strict=True))
    model = tiny_compact(head, heads, ffn, seed, head_dim=head_dim)
    assert largest_difference(model, {"drawn": tiny_batch(rows, length, seed, padding)}) < 1e-4


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_valid_and_right(opset):
    model = tiny_bert()
    proto = ir.to_proto(graph_from_model(model, opset=opset))
    onnx.checker.check_model(proto, full_check=True)
    assert [x.version for x in proto.opset_import] == [opset]
    assert largest_difference(model, CASES, opset) < 1e-4


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_activations(activation):
    model = tiny_bert("masked-lm", hidden_act=activation)
    assert largest_difference(model, CASES) < 1e-4


def test_layer_norm_epsilon_comes_from_the_configuration():
    assert largest_difference(tiny_bert(layer_norm_eps=0.5), CASES) < 1e-4


def test_one_token_type_and_an_odd_hidden_size():
    model = tiny_bert(type_vocab_size=1, hidden_size=15, num_attention_heads=5)
    batches = parity_batches(len(VOCAB), 40, seed=2, token_types=1)
    assert largest_difference(model, batches) < 1e-4


def test_padding_changes_no_kept_answer():
    predict = predict_from_graph(tiny_bert("encoder"))
    short = tiny_batch(2, 5, padding="none")
    wide = {name: torch.nn.functional.pad(x, (0, 4), value=1) for name, x in short.items()}
    wide["attention_mask"][:, 5:] = 0
    expected, found = predict(short)["last_hidden_state"], predict(wide)["last_hidden_state"]
    torch.testing.assert_close(found[:, :5], expected, rtol=0, atol=1e-5)


def test_graph_has_only_standard_operators_and_dynamic_axes():
    proto = ir.to_proto(graph_from_model(tiny_bert("question-answering")))
    assert {node.domain for node in proto.graph.node} == {""}
    for value in [*proto.graph.input, *proto.graph.output]:
        assert [dim.dim_param for dim in value.type.tensor_type.shape.dim] == ["batch", "sequence"]
    assert tuple(x.name for x in proto.graph.input) == INPUT_NAMES
    assert [x.name for x in proto.graph.output] == ["start_logits", "end_logits"]


def test_initializers_keep_the_names_of_the_parameters():
    model = tiny_bert()
    stored = {x.name for x in ir.to_proto(graph_from_model(model)).graph.initializer}
    assert "bert.embeddings.word_embeddings.weight" in stored
    assert "bert.encoder.layer.1.attention.self.query.weight.T.scaled" in stored
    assert "bert.encoder.layer.1.output.dense.weight.T" in stored
    assert {name for name, _ in model.named_parameters() if "LayerNorm" in name} <= stored


def test_empty_sublayers_leave_only_their_bias():
    proto = ir.to_proto(graph_from_model(tiny_compact("encoder", [0, 2], [3, 0])))
    empty = [n.name for n in proto.graph.node if n.name.startswith("encoder.layer.0.attention.")]
    assert empty == [
        "encoder.layer.0.attention.output.residual/Add",
        "encoder.layer.0.attention.output.LayerNorm/LayerNormalization",
    ]
    assert not [n.name for n in proto.graph.node if "layer.1.intermediate" in n.name]


def test_tied_decoder_is_stored_once():
    tied, untied = tiny_bert("masked-lm"), tiny_bert("masked-lm", tie_word_embeddings=False)
    assert _matrices(tied, (16, len(VOCAB))) == [(len(VOCAB), 16)]
    assert _matrices(untied, (16, len(VOCAB))) == [(16, len(VOCAB)), (len(VOCAB), 16)]
    assert largest_difference(untied, CASES) < 1e-4


def test_pooler_of_a_bare_encoder_is_left_out():
    with_pooler = graph_from_model(tiny_bert("encoder"))
    without = graph_from_model(tiny_bert("encoder", add_pooling_layer=False))
    assert not [name for name in with_pooler.graph.initializers if "pooler" in name]
    assert len(with_pooler.graph) == len(without.graph)


def test_graph_says_what_it_is():
    graph = graph_from_model(tiny_compact("token-classification", [1, 0], [2, 3]))
    assert graph.producer_name == "slimbert"
    assert graph.metadata_props["slimbert.head"] == "token-classification"
    assert '"layers": [{"heads": 1, "ffn": 2}, {"heads": 0, "ffn": 3}]' in graph.metadata_props["slimbert.arch"]


def test_model_survives_unchanged():
    model = tiny_bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ir.to_proto(graph_from_model(model))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_unsupported_activation_is_named():
    with pytest.raises(InputError, match=r"hidden_act 'silu' cannot be exported; supported: gelu, gelu_new, relu"):
        graph_from_model(tiny_bert(hidden_act="silu"))


def test_unsupported_position_embeddings_are_named():
    model = tiny_bert()
    model.config.position_embedding_type = "relative_key"
    with pytest.raises(InputError, match="position_embedding_type 'relative_key' cannot be exported"):
        graph_from_model(model)


@pytest.mark.parametrize("field", ["is_decoder", "add_cross_attention"])
def test_decoders_are_refused(field):
    model = tiny_bert()
    setattr(model.config, field, True)
    with pytest.raises(InputError, match="a decoder, or cross attention, cannot be exported"):
        graph_from_model(model)


def test_unsupported_opset_is_named():
    with pytest.raises(InputError, match="the opset must be one of 20, 21, 22, 23; got 12"):
        graph_from_model(tiny_bert(), opset=12)


def _matrices(model, shape):
    wanted = {shape, shape[::-1]}
    initializers = ir.to_proto(graph_from_model(model)).graph.initializer
    return sorted(tuple(x.dims) for x in initializers if tuple(x.dims) in wanted)
