"""LayerNorm to NoNorm and GELU to ReLU: exact at both ends, folded, saved, reloaded, exported."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from torch.nn import functional as F

from exporter.int8.check import predict_from_proto
from exporter.int8.rewrite import FULL_LIMIT, dynamic_int8_graph
from exporter.int8.source import weight_products
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.batching import predict_from_model
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.config import CompactBertConfig
from pruning.errors import InputError
from pruning.heads import HEAD_CLASSES
from pruning.methods.block_movement import prune_by_movement
from pruning.model import NoNorm
from pruning.movement.faster_blocks import FasterBlocks, MixedActivation, MixedNorm, replace_blocks
from pruning.movement.schedule import Schedule
from tests.pruning.compact import largest_gap
from tests.pruning.movement.models import pruner_of, spread_scores
from tests.pruning.movement.test_training import StoppedError, dense, lesson, options, weights_equal
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer

BOTH = FasterBlocks(no_norm=True, relu=True)
SCHEDULE = Schedule(total_steps=10, hold_steps=2, final_hold_steps=3)


def answers(model, padding="holes"):
    return predict_from_model(model)(tiny_batch(padding=padding))


def trained_blocks(model, blocks=BOTH, steps=10):
    """A few real steps in a plain loop, from LayerNorm and GELU to what `FasterBlocks` asks for."""
    torch.manual_seed(0)  # of dropout
    replacement = replace_blocks(model, blocks, SCHEDULE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.train()
    for step in range(steps):
        replacement.step(step)
        batch = tiny_batch(seed=step)
        optimiser.zero_grad()
        model(**batch, labels=torch.arange(len(batch["input_ids"])) % 2).loss.backward()
        optimiser.step()
    model.eval()
    return replacement


def compact_without_norm(model=None):
    """A trained, pruned, uneven compact model with NoNorm and ReLU."""
    model = model or tiny_bert()
    pruner = pruner_of(model=model)
    spread_scores(pruner)
    pruner.step(20)
    replacement = trained_blocks(model)
    replacement.step(10)
    before = answers(model)
    replacement.finish()
    return before, model, pruner


def test_nothing_changes_before_the_ramp():
    model = tiny_bert()
    before = answers(model)
    replacement = replace_blocks(model, BOTH, SCHEDULE)
    replacement.step(2)
    assert replacement.mix == 0
    assert largest_gap(before, answers(model)) == 0


def test_the_mixture_follows_the_ramp_and_its_ends_are_exact():
    replacement = replace_blocks(tiny_bert(), BOTH, SCHEDULE)
    mixes = []
    for step in range(11):
        replacement.step(step)
        mixes.append(replacement.mix)
    assert mixes == [0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_mixed_blocks_are_the_formula(mix):
    norm = torch.nn.LayerNorm(6, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(6))
        norm.bias.copy_(torch.randn(6))
    x = torch.randn(2, 5, 6) * 3 + 1
    mixed = MixedNorm(norm).eval()
    mixed.mean.fill_(0.7)
    mixed.deviation.fill_(2.5)
    mixed.mix = mix
    scaled = norm.weight * (x - 0.7) / 2.5 + norm.bias
    torch.testing.assert_close(mixed(x), (1 - mix) * norm(x) + mix * scaled)
    torch.testing.assert_close(mixed.folded()(x), scaled)
    activation = MixedActivation(torch.nn.GELU())
    activation.mix = mix
    torch.testing.assert_close(activation(x), (1 - mix) * F.gelu(x) + mix * F.relu(x))


def test_statistics_are_means_over_tokens_and_stand_still_at_the_end():
    norm = MixedNorm(torch.nn.LayerNorm(8, eps=0.0)).train()
    first, second = torch.randn(3, 4, 8) + 2, torch.randn(3, 4, 8) * 5
    norm(first)
    norm(second)
    both = torch.stack([first, second])
    assert norm.mean.item() == pytest.approx(both.mean().item(), rel=1e-5)
    assert norm.deviation.item() == pytest.approx(both.std(dim=-1, correction=0).mean().item(), rel=1e-5)
    norm.mix = 1.0
    norm(first * 100)
    norm.eval()
    norm.mix = 0.5
    norm(first * 100)
    assert norm.batches.item() == 2


def test_folded_model_answers_like_the_mixed_one_at_its_end():
    before, model, pruner = compact_without_norm()
    assert (model.config.norm_type, model.config.hidden_act) == ("no_norm", "relu")
    assert not any(isinstance(x, torch.nn.LayerNorm | MixedNorm) for x in model.modules())
    assert largest_gap(before, answers(model)) < 1e-4
    assert largest_gap(answers(model), answers(pruner.compact())) < 1e-4


def test_compact_checkpoint_comes_back_without_norm(tmp_path):
    _, _, pruner = compact_without_norm()
    compact = pruner.compact()
    save_checkpoint(compact, tiny_tokenizer(), tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved").model
    assert loaded.config.norm_type == "no_norm"
    assert sum(isinstance(x, NoNorm) for x in loaded.modules()) == 7  # embeddings, two in each of three layers
    assert largest_gap(answers(compact), answers(loaded)) == 0


@pytest.mark.parametrize("dialect", [Dialect.STANDARD, Dialect.ORT_CPU])
def test_graph_has_no_layer_normalization_and_answers_alike(tmp_path, dialect):
    _, _, pruner = compact_without_norm()
    compact = pruner.compact()
    onnx_from_model(compact, tmp_path / "m.onnx", options=GraphOptions(dialect=dialect))
    graph = onnx.load(tmp_path / "m.onnx")
    kinds = {node.op_type for node in graph.graph.node}
    assert not {x for x in kinds if "Normalization" in x or "Gelu" in x}
    assert {"Mul", "Relu"} <= kinds
    for padding in ("none", "left", "holes"):
        predict = predict_from_proto(graph)
        assert largest_gap(answers(compact, padding), predict(tiny_batch(padding=padding))) < 1e-4


@pytest.mark.parametrize("dialect", [Dialect.STANDARD, Dialect.ORT_CPU])
def test_int8_graph_has_no_layer_normalization_either(tmp_path, dialect):
    _, _, pruner = compact_without_norm(tiny_bert(std=0.2))  # small activations: without norms int8 is coarse
    compact = pruner.compact()
    onnx_from_model(compact, tmp_path / "m.onnx", options=GraphOptions(dialect=dialect))
    graph = onnx.load(tmp_path / "m.onnx")
    quantised = dynamic_int8_graph(graph, weight_products(graph), limit=FULL_LIMIT, embeddings=False)
    assert not {node.op_type for node in quantised.graph.node if "Normalization" in node.op_type}
    exact, rounded = answers(compact, "none"), predict_from_proto(quantised)(tiny_batch(padding="none"))
    gap = largest_gap(exact, rounded)
    assert 0 < gap < 0.5 * exact["logits"].abs().max()


def test_fp16_graph_keeps_its_tolerance(tmp_path):
    _, _, pruner = compact_without_norm(tiny_bert(std=0.2))
    export = onnx_from_model(pruner.compact(), tmp_path / "h.onnx", options=GraphOptions(dtype=Dtype.FP16))
    assert all(row.passed for row in export.parity)


def test_one_block_leaves_the_other():
    model = tiny_bert()
    trained_blocks(model, FasterBlocks(relu=True)).finish()
    assert model.config.hidden_act == "relu"
    assert any(isinstance(x, torch.nn.LayerNorm) for x in model.modules())


def test_new_compact_model_starts_from_scale_one():
    config = CompactBertConfig(**(tiny_bert().config.to_dict() | {"norm_type": "no_norm"}))
    model = HEAD_CLASSES["sequence-classification"](config)
    norms = [x for x in model.modules() if isinstance(x, NoNorm)]
    assert all((x.weight == 1).all() and (x.bias == 0).all() for x in norms)
    with pytest.raises(ValueError, match="norm_type must be layer_norm or no_norm; got 'batch'"):
        CompactBertConfig(norm_type="batch")


@pytest.mark.parametrize(
    ("head", "blocks", "before", "message"),
    [
        ("masked-lm", BOTH, {}, "a masked LM shares"),
        ("sequence-classification", BOTH, {"hidden_act": "relu"}, "ReLU already. Leave --relu out"),
    ],
)
def test_what_has_nothing_to_replace_is_refused(head, blocks, before, message):
    with pytest.raises(InputError, match=message):
        replace_blocks(tiny_bert(head, **before), blocks, SCHEDULE)


def test_norms_are_trained_away_once():
    _, model, _ = compact_without_norm()
    with pytest.raises(InputError, match=r"no LayerNorm left\. Leave --no-norm out"):
        replace_blocks(model, FasterBlocks(no_norm=True), SCHEDULE)


def test_masked_training_mixes_blocks_and_resumes_exactly(tmp_path):
    request = replace(options(), blocks=BOTH)
    whole = prune_by_movement(dense(), lesson(), request, tmp_path / "whole")
    assert (whole.model.config.norm_type, whole.model.config.hidden_act) == ("no_norm", "relu")

    def kill(phase, done, total, what):
        if done == 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        prune_by_movement(dense(), lesson(), request, tmp_path / "out", kill)
    resumed = prune_by_movement(dense(), lesson(), request, tmp_path / "out")
    assert weights_equal(whole.model, resumed.model)
