"""Masks on a real model: equality with the compact one, targets, floors, rewind, and what is refused."""

from __future__ import annotations

import random
from dataclasses import replace

import onnxruntime as ort
import pytest
import torch

from exporter.ort_session import predict_from_session
from exporter.to_onnx import onnx_from_model
from pruning.batching import predict_from_model
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.movement.controller import PenaltyController, Target, cut_for
from pruning.movement.fill import fill_holes
from pruning.movement.layers import masks_of
from pruning.movement.masked_linear import MaskedLinear
from pruning.movement.names import MaskFunction, Variant
from pruning.movement.pruner import PaperAim, attach
from pruning.movement.spec import FamilySpec, Floors, MovementSpec
from pruning.movement.training import parameter_groups
from pruning.tasks.registry import task_named
from pruning.tasks.task import settings_from_config
from pruning.tasks.text_data import TextData
from tests.pruning.compact import PADDINGS, largest_gap, tiny_compact
from tests.pruning.movement.models import SHORT, fine_bert, pruner_of, spec, spread_scores, trained, weights_target
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert, tiny_tokenizer


def outputs(model, padding="holes", seed=0):
    with torch.no_grad():
        return model(**tiny_batch(seed=seed, padding=padding), output_hidden_states=True)


def accuracy(predict):
    """On texts of all lengths, with labels by chance."""
    words, chance = ("cat", "sat", "dog", "bird", "house", "happy", "sad", "big", "tree"), random.Random(0)
    texts = tuple(" ".join(chance.choices(words, k=1 + index % 9)) for index in range(60))
    data = TextData(texts, None, tuple(chance.randrange(2) for _ in texts))
    task = task_named("text-classification")
    return task.evaluate(predict, tiny_tokenizer(), data, settings_from_config(tiny_bert().config)).metric.value


def target_of(variant, wanted=0.5):
    return weights_target(wanted, holes=variant in (Variant.BLOCK, Variant.UNSTRUCTURED))


@pytest.mark.parametrize("head", sorted(DENSE_CLASSES))
def test_fresh_masks_change_nothing(head):
    model, plain = tiny_bert(head), tiny_bert(head)
    pruner = pruner_of(model=model)
    pruner.step(0)
    assert largest_gap(outputs(plain), outputs(model)) < 1e-5
    assert set(plain.state_dict()) <= set(model.state_dict())


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("function", list(MaskFunction))
def test_masked_equals_compact_after_training(variant, function):
    pruner = trained(pruner_of(variant, function, aim=target_of(variant)), steps=3)
    spread_scores(pruner) if function is not MaskFunction.MAGNITUDE else None
    pruner.model.double()
    pruner.step(20)
    compact = pruner.compact()
    assert not any(isinstance(module, MaskedLinear) for module in compact.modules())
    for padding in PADDINGS:
        assert largest_gap(outputs(pruner.model, padding), outputs(compact, padding)) < 1e-10


@pytest.mark.parametrize("variant", list(Variant))
def test_trained_model_is_the_same_compact_reloaded_and_in_onnx(variant, tmp_path):
    pruner = trained(pruner_of(variant, aim=target_of(variant), model=fine_bert()))
    pruner.finish()
    compact = pruner.compact()
    save_checkpoint(compact, tiny_tokenizer(), tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved").model
    onnx_from_model(loaded, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    batch, masked = tiny_batch(padding="right"), predict_from_model(pruner.model)
    expected = masked(batch)["logits"]
    for predict in (predict_from_model(compact), predict_from_model(loaded), predict_from_session(session)):
        torch.testing.assert_close(predict(batch)["logits"], expected, rtol=1e-4, atol=1e-4)
        assert accuracy(predict) == accuracy(masked)
    assert 0 < accuracy(masked) < 1
    assert arch_from_model(loaded) == pruner.census().arch


def test_answers_to_questions_are_the_same_masked_compact_reloaded_and_in_onnx(tmp_path):
    pruner = pruner_of(model=fine_bert("question-answering"), aim=target_of(Variant.HYBRID))
    spread_scores(pruner)
    pruner.finish()
    compact = pruner.compact()
    save_checkpoint(compact, tiny_tokenizer(), tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved").model
    onnx_from_model(loaded, tmp_path / "model.onnx")
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    batch = tiny_batch(padding="right")
    tokens = batch["attention_mask"].bool()
    expected = predict_from_model(pruner.model)(batch)
    for predict in (predict_from_model(compact), predict_from_model(loaded), predict_from_session(session)):
        for name in ("start_logits", "end_logits"):
            torch.testing.assert_close(predict(batch)[name][tokens], expected[name][tokens], rtol=1e-4, atol=1e-4)


def test_compact_models_with_empty_sublayers_can_be_pruned_again():
    model = tiny_compact().double()
    pruner = pruner_of(model=model)
    spread_scores(pruner)
    pruner.model.double()
    pruner.step(20)
    assert largest_gap(outputs(model), outputs(pruner.compact())) < 1e-10


def test_dead_queries_alone_leave_a_living_head():
    pruner = pruner_of(Variant.STRUCT, model=tiny_bert().double())
    query, key, value, output = pruner.layers[0].attention
    query.mask.scores.data[1] = -9
    key.mask.scores.data[1] = -9
    value.mask.scores.data[2] = -9
    output.mask.scores.data[:, 3] = -9
    pruner.step(20)
    assert pruner.census().heads[0] == (0, 1)
    compact = pruner.compact()
    assert arch_from_model(compact).heads[0] == 2
    assert largest_gap(outputs(pruner.model), outputs(compact)) < 1e-10


def test_attached_model_keeps_its_parameters_and_names_scores_once():
    model = tiny_bert()
    before = {name: id(parameter) for name, parameter in model.named_parameters()}
    pruner = pruner_of(model=model)
    after = {name: id(parameter) for name, parameter in model.named_parameters()}
    assert before.items() <= after.items()
    assert sorted(map(id, pruner.scores)) == sorted(set(after.values()) - set(before.values()))
    assert len(pruner.scores) == 3 * 5


def test_weight_decay_is_exactly_zero_on_scores():
    pruner = pruner_of()
    groups = parameter_groups(pruner.model, pruner, weight_decay=0.5, score_learning_rate=0.3)
    assert [(group["weight_decay"], group.get("lr")) for group in groups] == [(0.5, None), (0.0, None), (0.0, 0.3)]
    assert sum(len(group["params"]) for group in groups) == len(list(pruner.model.parameters()))
    spread_scores(pruner)
    before = [score.detach().clone() for score in pruner.scores]
    optimiser = torch.optim.AdamW(groups, lr=0.1)
    for parameter in pruner.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, pruner.scores, strict=True))


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("wanted", [0.2, 0.6])
def test_the_target_is_met_within_three_percent(variant, wanted):
    aim = target_of(variant, wanted)
    pruner = trained(pruner_of(variant, aim=aim, model=fine_bert()))
    record = pruner.finish()
    left = record.nonzero if aim.price is None else record.density
    assert left == pytest.approx(wanted, rel=0.03)
    assert arch_from_model(pruner.compact()).encoder_linear_params == pytest.approx(
        record.density * pruner.dense_arch.encoder_linear_params
    )


def test_history_tells_the_way():
    pruner = trained(pruner_of(aim=weights_target(0.5), model=fine_bert()))
    pruner.finish()
    steps = [record.step for record in pruner.history]
    assert steps == list(range(11))
    assert [record.density for record in pruner.history[:2]] == [1.0] * 2
    assert pruner.history[-1].heads == tuple(map(len, pruner.census().heads))
    assert str(pruner.history[-1]).startswith("density 0.")


def test_the_penalty_is_steered_until_the_needed_cut_is_where_the_paper_ends():
    """A toy plant: scores drift by a rate that grows with log(lambda), as under Adam, and the loss pulls back."""
    for strength in (0.3, 1.0, 3.0):
        controller = PenaltyController(0.5, 0.1, log_lambda=0.0)
        quantile, value = 0.0, 1.0
        for step in range(1, 201):
            quantile -= strength * 0.02 * (torch.tensor(value).log1p().item() - 0.5)
            value = controller.update(torch.tensor(quantile).sigmoid().item(), step / 200)
        assert torch.tensor(quantile).sigmoid().item() == pytest.approx(0.1, rel=0.25)


def test_cut_for_finds_the_step_that_comes_closest():
    assert cut_for(0.5, lambda cut: 1 - cut) == pytest.approx(0.5)
    levels = cut_for(0.5, lambda cut: 0.9 if cut < 0.3 else 0.45)
    assert levels == pytest.approx(0.3)
    assert cut_for(0.8, lambda cut: 0.9 if cut < 0.3 else 0.1) < 0.3


@pytest.mark.parametrize("variant", list(Variant))
def test_floors_keep_units_alive(variant):
    pruner = pruner_of(variant, floors=Floors(heads=2, neurons=5))
    spread_scores(pruner)
    for mask in masks_of(pruner.layers):
        mask.scores.data -= 100
    pruner.step(20)
    assert [len(heads) for heads in pruner.census().heads] == [2, 2, 2]
    assert all(len(neurons) >= 5 for neurons in pruner.census().neurons)
    assert largest_gap(outputs(pruner.model), outputs(pruner.compact())) < 1e-4


def test_rewind_keeps_the_heads_of_an_earlier_run_whole():
    rewound = replace(spec(), rewind=((1, 3), (), (0,)))
    pruner = attach(tiny_bert(), rewound, SHORT, PaperAim(10.0))
    for mask in masks_of(pruner.layers):
        mask.scores.data.fill_(-9)
    pruner.step(20)
    assert pruner.census().heads == ((1, 3), (), (0,))
    query, _, _, output = pruner.layers[0].attention
    rows = query.masked_parameters()[0].view(4, 4, 16)
    assert (rows[[1, 3]] != 0).all()
    assert (rows[[0, 2]] == 0).all()
    assert (output.masked_parameters()[0].view(16, 4, 4)[:, [1, 3]] != 0).all()


def test_two_four_masks_every_row_and_survives_compaction():
    pruner = attach(tiny_bert().double(), replace(spec(), two_four=True), SHORT, PaperAim(10.0))
    pruner.step(0)
    for linear in pruner.layers[1].linears:
        zeros = (linear.masked_parameters()[0] == 0).view(linear.out_features, -1, 4)
        assert (zeros.sum(-1) == 2).all()
    assert largest_gap(outputs(pruner.model), outputs(pruner.compact())) < 1e-10


def test_gates_are_random_in_training_and_fixed_in_evaluation():
    pruner = pruner_of(function=MaskFunction.L0)
    mask = next(masks_of(pruner.layers))
    pruner.model.train()
    pruner.step(3)
    first = mask()
    pruner.step(4)
    assert not torch.equal(first, mask())
    pruner.step(3)
    assert torch.equal(first, mask())
    pruner.model.eval()
    assert torch.equal(mask(), torch.full_like(first, mask().flatten()[0].item()))


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")
def test_gradient_checkpointing_sees_the_same_masks():
    plain, checkpointed = (
        pruner_of(model=tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)) for _ in range(2)
    )
    checkpointed.model.gradient_checkpointing_enable()
    for pruner in (plain, checkpointed):
        spread_scores(pruner)
        pruner.step(15)
        pruner.model.train()(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    for a, b in zip(plain.scores, checkpointed.scores, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_filling_leaves_no_zero_and_keeps_the_rest():
    pruner = pruner_of(Variant.HYBRID_FILLED)
    spread_scores(pruner)
    pruner.step(20)
    compact = pruner.compact()
    before = {name: parameter.detach().clone() for name, parameter in compact.named_parameters()}
    holes = sum(int((before[name] == 0).sum()) for name in before if ".layer." in name and name.endswith("weight"))
    assert fill_holes(compact, seed=1) == holes > 0
    for name, parameter in compact.named_parameters():
        kept = before[name] != 0
        assert torch.equal(parameter[kept], before[name][kept])
    name = max((x for x in before if ".layer." in x), key=lambda x: int((before[x] == 0).sum()))
    new, old = compact.get_parameter(name)[before[name] == 0], before[name]
    assert new.mean().item() == pytest.approx(old.mean().item(), abs=0.01 * old.std().item())
    assert 0 < new.std().item() < 0.02 * old.std().item()
    assert fill_holes(compact) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pruner_of(block=(5, 4)), "blocks of 5x4 do not divide a matrix of 16x16"),
        (lambda: pruner_of(block=(0, 4)), "a block needs at least one row and one column; got 0x4"),
        (lambda: pruner_of(model=torch.nn.Linear(2, 2)), "Linear is not supported"),
        (lambda: pruner_of(model=tiny_compact(heads=[0], ffn=[0])), "neither heads nor FFN neurons left to prune"),
        (lambda: pruner_of(model=pruner_of().model), "the model is masked already"),
        (lambda: pruner_of(function=MaskFunction.TOPK), "topk keeps a fraction of each matrix and knows no lambda"),
        (lambda: pruner_of(Variant.BLOCK, aim=weights_target(0.5)), "variant block leaves zeros inside living heads"),
        (lambda: pruner_of(aim=weights_target(0.1), floors=Floors(heads=4)), "floors and kept heads hold"),
        (lambda: Floors(heads=-1), "floors are numbers of heads and neurons"),
        (lambda: FamilySpec(penalty=-1.0), "the penalty of a family must be finite"),
        (lambda: PaperAim(-1.0), "--lambda must be finite and at least 0; got -1"),
        (lambda: Target(0.0, None, ""), "a target must leave more than nothing"),
        (
            lambda: attach(tiny_bert(), MovementSpec(Variant.HYBRID, block=(4, 4), rewind=((),)), SHORT, PaperAim(1.0)),
            "kept heads of 1 layers; this model has 3",
        ),
        (
            lambda: attach(
                tiny_bert(), MovementSpec(Variant.HYBRID, block=(4, 4), rewind=((7,), (), ())), SHORT, PaperAim(1.0)
            ),
            "kept head 7 of layer 0, which has 4 heads",
        ),
    ],
)
def test_what_can_not_be_pruned_is_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_a_refused_block_leaves_the_model_as_it_was():
    model = tiny_bert(intermediate_size=25)
    with pytest.raises(InputError, match="do not divide"):
        pruner_of(Variant.BLOCK, model=model)
    assert not any(isinstance(module, MaskedLinear) for module in model.modules())


def test_a_target_between_two_sizes_is_refused_at_the_end():
    model = tiny_bert(num_hidden_layers=1, num_attention_heads=1, intermediate_size=1)
    pruner = pruner_of(Variant.STRUCT, model=model, aim=weights_target(0.5))
    with pytest.raises(InputError, match="no cut comes closer"):
        pruner.finish()
