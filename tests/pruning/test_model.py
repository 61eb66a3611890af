import copy

import pytest
import torch
from torch.nn import functional as F

from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import layers_from_model
from pruning.model import CompactBertModel, attention_bias, masks_nothing
from tests.pruning.compact import HEADS, PADDINGS, UNEVEN, largest_gap, pruned_bert, tensors_of, tiny_compact, twin_of
from tests.tiny import VOCAB, tiny_batch, tiny_bert

FULL = {"output_hidden_states": True, "output_attentions": True}
EXTREMES = [([0, 0, 0], [0, 0, 0]), ([0, 2, 0], [0, 8, 0]), ([1, 1, 1], [1, 1, 1]), ([6, 4, 2], [40, 24, 3]), UNEVEN]


def dense_and_twin(head, **overrides):
    dense = tiny_bert(head, attn_implementation="eager", **overrides).double()
    return dense, twin_of(dense)


def loss_of(model, batch):
    """A number that depends on every output."""
    return sum(x.float().square().mean() for x in tensors_of(model(**batch)).values())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("padding", PADDINGS)
def test_compact_equals_dense_states_and_attentions_included(head, padding):
    dense, twin = dense_and_twin(head)
    batch = tiny_batch(padding=padding)
    assert largest_gap(dense(**batch, **FULL), twin(**batch, **FULL)) < 1e-12


@pytest.mark.parametrize("pooled", [True, False])
def test_bare_encoder_equals_dense_with_and_without_pooler(pooled):
    dense, twin = dense_and_twin("encoder", add_pooling_layer=pooled)
    outputs = twin(**tiny_batch())
    assert largest_gap(dense(**tiny_batch()), outputs) < 1e-12
    assert (outputs.pooler_output is not None) is pooled


@pytest.mark.parametrize("act", ["relu", "gelu_new", "silu"])
def test_other_activations_equal_dense(act):
    dense, twin = dense_and_twin("masked-lm", hidden_act=act)
    assert largest_gap(dense(**tiny_batch()), twin(**tiny_batch())) < 1e-12


@pytest.mark.parametrize("left_out", ["attention_mask", "token_type_ids"])
def test_defaults_equal_dense(left_out):
    dense, twin = dense_and_twin("encoder")
    batch = {name: tensor for name, tensor in tiny_batch().items() if name != left_out}
    assert largest_gap(dense(**batch), twin(**batch)) < 1e-12


def test_position_ids_equal_dense_and_matter():
    dense, twin = dense_and_twin("encoder")
    batch = tiny_batch() | {"position_ids": torch.arange(9).flip(0)[None] + 5}
    assert largest_gap(dense(**batch), twin(**batch)) < 1e-12
    assert largest_gap(twin(**tiny_batch()), twin(**batch)) > 0.1


def test_inputs_embeds_stand_for_input_ids():
    model = pruned_bert("encoder")
    batch = tiny_batch()
    expected = model(**batch)
    words = model.get_input_embeddings()(batch.pop("input_ids"))
    assert largest_gap(expected, model(**batch, inputs_embeds=words)) == 0


@pytest.mark.parametrize("head", HEADS)
def test_ids_and_embeddings_exclude_each_other(head):
    model = tiny_compact(head)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(attention_mask=torch.ones(1, 3))
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(torch.ones(1, 3, dtype=torch.long), inputs_embeds=torch.ones(1, 3, 16))


def test_a_mask_per_query_separates_texts_packed_into_one_row():
    model = pruned_bert("encoder").double()
    ids = tiny_batch(rows=1, length=9)["input_ids"]
    text = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1])
    together = (text[:, None] == text)[None].long()  # (1, S, S)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    packed = model(ids, attention_mask=together, position_ids=positions).last_hidden_state
    apart = [model(part).last_hidden_state for part in (ids[:, :4], ids[:, 4:])]
    assert (packed - torch.cat(apart, dim=1)).abs().max() < 1e-12


@pytest.mark.parametrize("padding", PADDINGS)
def test_asking_for_attentions_does_not_change_the_states(padding):
    model = tiny_compact("encoder").double()
    batch = tiny_batch(padding=padding)
    fused, written_out = model(**batch).last_hidden_state, model(**batch, output_attentions=True).last_hidden_state
    assert (fused - written_out).abs().max() < 1e-12


def test_attentions_have_one_entry_per_layer_without_heads_too():
    outputs = tiny_compact("encoder")(**tiny_batch(), output_attentions=True)
    assert [tuple(x.shape) for x in outputs.attentions] == [(4, 2, 9, 9), (4, 0, 9, 9), (4, 4, 9, 9)]


def test_hidden_states_start_with_the_embeddings_and_end_with_the_result():
    outputs = tiny_compact("encoder")(**tiny_batch(), output_hidden_states=True)
    assert len(outputs.hidden_states) == 4
    assert outputs.hidden_states[-1] is outputs.last_hidden_state


def test_states_and_attentions_only_on_request():
    outputs = tiny_compact("encoder")(**tiny_batch())
    assert outputs.hidden_states is None
    assert outputs.attentions is None


def test_the_configuration_can_ask_for_states_and_attentions():
    model = tiny_compact("encoder", attn_implementation="eager", **FULL)
    outputs = model(**tiny_batch())
    assert len(outputs.hidden_states) == 4
    assert len(outputs.attentions) == 3


@pytest.mark.parametrize("head", HEADS)
def test_tuples_hold_the_same_as_the_output_object(head):
    model = tiny_compact(head)
    expected = model(**tiny_batch(), output_hidden_states=True)
    found = model(**tiny_batch(), output_hidden_states=True, return_dict=False)
    assert isinstance(found, tuple)
    flat = [x for value in found for x in (value if isinstance(value, tuple) else [value])]
    for a, b in zip(tensors_of(expected).values(), flat, strict=True):
        assert torch.equal(a, b)


def test_an_empty_layer_is_its_two_biases_and_norms():
    model = tiny_compact("encoder", [0], [0])
    states = model(**tiny_batch(), output_hidden_states=True).hidden_states
    (layer,) = layers_from_model(model)
    attended = layer.attention.output.LayerNorm(states[0] + layer.attention.output.dense.bias)
    assert torch.equal(layer.output.LayerNorm(attended + layer.output.dense.bias), states[1])


def test_an_empty_sublayer_has_no_matrices():
    names = {name for name, _ in layers_from_model(tiny_compact("encoder", [0], [0]))[0].named_parameters()}
    norms = {f"{part}.LayerNorm.{kind}" for part in ("attention.output", "output") for kind in ("weight", "bias")}
    assert names == {"attention.output.dense.bias", "output.dense.bias"} | norms


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("heads", "ffn"), EXTREMES)
def test_every_shape_gives_finite_outputs_and_gradients_to_every_parameter(head, heads, ffn):
    model = tiny_compact(head, heads, ffn)
    loss = loss_of(model, tiny_batch(padding="holes"))
    loss.backward()
    assert torch.isfinite(loss)
    assert {name for name, x in model.named_parameters() if x.grad is None or not x.grad.isfinite().all()} == set()


def test_gradients_equal_dense():
    dense, twin = dense_and_twin("token-classification")
    for model in (dense, twin):
        loss_of(model, tiny_batch()).backward()
    gradients = dict(twin.named_parameters())
    for name, parameter in dense.named_parameters():
        torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")  # its new name is not in 4.57
@pytest.mark.parametrize("head", HEADS)
def test_gradient_checkpointing_gives_the_same_gradients(head):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_compact(head, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        assert all(layer.gradient_checkpointing is checkpointing for layer in layers_from_model(model))
        loss_of(model, tiny_batch()).backward()
        gradients.append([x.grad for x in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_dropout_acts_in_training_and_not_in_evaluation():
    model = tiny_compact("encoder")
    assert largest_gap(model(**tiny_batch()), model(**tiny_batch())) == 0
    model.train()
    assert largest_gap(model(**tiny_batch()), model(**tiny_batch())) > 0


def test_a_row_without_tokens_attends_uniformly():
    model = tiny_compact("encoder")
    batch = tiny_batch()
    batch["attention_mask"][1] = 0
    outputs = model(**batch, output_attentions=True)
    torch.testing.assert_close(outputs.attentions[0][1], torch.full((2, 9, 9), 1 / 9))
    assert torch.isfinite(model(**batch).last_hidden_state).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_masking_is_finite_in_every_precision(dtype):
    bias = attention_bias(torch.tensor([[1, 0]]), dtype)
    assert bias.shape == (1, 1, 1, 2)
    assert bias.flatten().tolist() == [0.0, torch.finfo(dtype).min]


@pytest.mark.parametrize("head", HEADS)
def test_padding_does_not_change_a_text(head):
    model = tiny_compact(head).double()
    short, long = tiny_batch(rows=2, length=5, padding="none"), tiny_batch(rows=2, length=9)
    long["attention_mask"][:, 5:] = 0
    for name in ("input_ids", "token_type_ids"):
        long[name][:, :5] = short[name]
    long["attention_mask"][:, :5] = 1
    for name, expected in tensors_of(model(**short)).items():
        found = model(**long)[name]
        found = found if found.shape == expected.shape else found[:, :5]
        assert (found - expected).abs().max() < 1e-12


@pytest.mark.parametrize("head", HEADS)
def test_bf16_autocast_trains_close_to_fp32(head):
    model = tiny_compact(head)
    batch = tiny_batch(padding="holes")
    exact = loss_of(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, batch)
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=0.2, atol=0.1)
    assert all(torch.isfinite(x.grad).all() for x in model.parameters())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [40, 20])
def test_embeddings_can_be_resized(head, size):
    model = tiny_compact(head)
    before = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(size, mean_resizing=False)
    batch = tiny_batch()
    batch["input_ids"] %= size
    kept = min(size, len(VOCAB))
    assert model.config.vocab_size == size
    assert torch.equal(model.get_input_embeddings().weight[:kept], before[:kept])
    assert torch.isfinite(loss_of(model, batch))


@pytest.mark.parametrize("size", [40, 20])
def test_resizing_keeps_the_decoder_tied(size):
    model = tiny_compact("masked-lm")
    model.resize_token_embeddings(size, mean_resizing=False)
    predictions = model.cls.predictions
    assert predictions.decoder.weight is model.get_input_embeddings().weight
    assert predictions.decoder.bias is predictions.bias
    assert predictions.bias.shape == (size,)


def test_input_embeddings_can_be_replaced():
    model = tiny_compact("encoder")
    other = torch.nn.Embedding(len(VOCAB), 16)
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other


@pytest.mark.parametrize("head", HEADS)
def test_a_state_dict_carries_over_to_a_new_model(head):
    model = tiny_compact(head)
    fresh = HEAD_CLASSES[head](model.config).eval()
    fresh.load_state_dict(model.state_dict())
    assert largest_gap(model(**tiny_batch()), fresh(**tiny_batch())) == 0


@pytest.mark.parametrize("head", HEADS)
def test_a_deep_copy_is_equal_and_independent(head):
    model = tiny_compact(head)
    before = model(**tiny_batch())
    twin = copy.deepcopy(model)
    assert largest_gap(before, twin(**tiny_batch())) == 0
    for parameter in twin.parameters():
        parameter.data.fill_(7.0)
    assert largest_gap(before, model(**tiny_batch())) == 0


def test_an_exported_program_works_at_shapes_not_traced():
    model = tiny_compact("sequence-classification").requires_grad_(False)
    rows, length = torch.export.Dim("rows", min=2, max=64), torch.export.Dim("length", min=2, max=40)
    traced = tiny_batch(rows=3, length=7)
    shapes = {name: {0: rows, 1: length} for name in traced}
    program = torch.export.export(model, (), traced, dynamic_shapes=shapes, strict=False)
    other = tiny_batch(rows=5, length=20, padding="holes")
    torch.testing.assert_close(program.module()(**other).logits, model(**other).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mask", [torch.ones(2, 3, dtype=torch.long), torch.ones(2, 3, 3), torch.ones(2, 3).bool()])
def test_a_mask_of_ones_masks_nothing(mask):
    assert masks_nothing(mask)
    mask[1, 2] = 0
    assert not masks_nothing(mask)
    assert not masks_nothing(torch.ones(2, 3, device="meta"))


@pytest.mark.parametrize("head", HEADS)
def test_a_mask_of_ones_is_no_bias_and_no_other_answer(head, monkeypatch):
    model, batch = pruned_bert(head).double(), tiny_batch(padding="none")
    found = model(**batch, **FULL)
    monkeypatch.setattr("pruning.model.masks_nothing", lambda mask: False)
    assert largest_gap(model(**batch, **FULL), found) < 1e-12
    monkeypatch.undo()
    monkeypatch.setattr("pruning.model.attention_bias", None)  # not called
    assert largest_gap(model(**batch, **FULL), found) == 0


def test_a_program_exported_with_a_mask_of_ones_obeys_other_masks():
    model = tiny_compact("sequence-classification").requires_grad_(False)
    program = torch.export.export(model, (), tiny_batch(padding="none"), strict=False).module()
    for padding in PADDINGS:
        batch = tiny_batch(padding=padding)
        torch.testing.assert_close(program(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # tracing is old
def test_a_traced_model_obeys_other_masks():
    model = tiny_compact("encoder", return_dict=False).requires_grad_(False)
    names = ("input_ids", "attention_mask", "token_type_ids")
    traced = torch.jit.trace(model, [tiny_batch(padding="none")[name] for name in names])
    for padding in PADDINGS:
        batch = tiny_batch(padding=padding)
        found = traced(*[batch[name] for name in names])[0]
        torch.testing.assert_close(found, model(**batch)[0], rtol=1e-4, atol=1e-4)


def test_a_compiled_model_is_one_graph_and_obeys_every_mask():
    model = tiny_compact("sequence-classification").requires_grad_(False)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for padding in ("none", *PADDINGS):
        batch = tiny_batch(padding=padding)
        torch.testing.assert_close(compiled(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-4)


def test_new_weights_are_drawn_as_bert_draws_them():
    model = CompactBertModel(tiny_compact("encoder").config)
    layer = layers_from_model(model)[0]
    assert 0.01 < layer.attention.self.query.weight.std() < 0.03
    assert torch.equal(layer.attention.self.query.bias, torch.zeros(8))
    assert torch.equal(layer.output.dense.bias, torch.zeros(16))
    assert torch.equal(layer.output.LayerNorm.weight, torch.ones(16))


def test_head_dim_is_free_of_hidden_size_and_heads():
    model = tiny_compact("encoder", [1, 3, 2], [4, 4, 4], head_dim=5)
    assert model.encoder.layer[1].attention.self.query.weight.shape == (15, 16)
    assert model(**tiny_batch()).last_hidden_state.shape == (4, 9, 16)


def test_a_configuration_without_lists_is_the_dense_model():
    config = CompactBertConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=5)
    assert (config.layer_num_heads, config.layer_intermediate_sizes, config.head_dim) == ([3, 3], [5, 5], 4)


def test_a_configuration_survives_its_dictionary():
    config = tiny_compact("encoder").config
    again = CompactBertConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert (again.layer_num_heads, again.layer_intermediate_sizes) == UNEVEN


@pytest.mark.parametrize("sizes", [[1, 2], [1, 2, 3, 4], [1, -1, 2], [], [1, 2.5, 3], ["a", 1, 2]])
@pytest.mark.parametrize("name", ["layer_num_heads", "layer_intermediate_sizes"])
def test_a_configuration_refuses_wrong_sizes(name, sizes):
    with pytest.raises(ValueError, match=f"{name} must hold 3 integers >= 0, one per layer; got "):
        CompactBertConfig(num_hidden_layers=3, **{name: sizes})


def test_softmax_dropout_keeps_the_mean():
    torch.manual_seed(0)
    model = tiny_compact("encoder", [4], [0], hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    states = model.embeddings(model.embeddings.word_embeddings(tiny_batch(padding="none")["input_ids"]), None, None)
    attention = layers_from_model(model)[0].attention.self
    exact = attention(states, None, with_weights=False)[0]
    attention.train()
    for with_weights in (True, False):
        noisy = torch.stack([attention(states, None, with_weights)[0] for _ in range(400)])
        assert F.cosine_similarity(noisy.mean(0).flatten(), exact.flatten(), dim=0) > 0.99
        assert noisy.std(0).mean() > 0.1
