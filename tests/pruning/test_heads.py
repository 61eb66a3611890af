import inspect

import pytest
import torch
from transformers import Trainer, TrainingArguments

from pruning.heads import HEAD_CLASSES
from pruning.introspect import DENSE_CLASSES
from tests.pruning.compact import HEADS, largest_gap, pruned_bert, tiny_compact, twin_of
from tests.tiny import VOCAB, tiny_batch, tiny_bert

ROWS, LENGTH = 4, 9
GENERATOR = torch.Generator().manual_seed(0)
CLASSES = torch.tensor([0, 2, 1, 1])
VALUES = torch.tensor([0.3, -1.0, 2.5, 0.0])
TAGS = torch.randint(0, 3, (ROWS, LENGTH), generator=GENERATOR)
TAGS[:, 0] = -100

SEQUENCE_LOSSES = {
    "single label": ({"num_labels": 3}, CLASSES),
    "single label, a column": ({"num_labels": 3}, CLASSES[:, None]),
    "single label by name": ({"num_labels": 3, "problem_type": "single_label_classification"}, CLASSES),
    "regression": ({"num_labels": 1}, VALUES),
    "regression, a column": ({"num_labels": 1}, VALUES[:, None]),
    "regression of several values": (
        {"num_labels": 3, "problem_type": "regression"},
        torch.randn(ROWS, 3, generator=GENERATOR),
    ),
    "multi label": ({"num_labels": 3}, torch.eye(3)[CLASSES]),
    "multi label by name": (
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        1 - torch.eye(3)[CLASSES],
    ),
}
TOKEN_TARGETS = {"labels": TAGS}
SPANS = {
    "inside": (torch.tensor([0, 3, 8, 1]), torch.tensor([0, 5, 8, 2])),
    "beyond the end": (torch.tensor([0, 3, 9, 400]), torch.tensor([2, 30, 8, 9])),
    "before the start": (torch.tensor([-1, 3, 8, 1]), torch.tensor([2, -7, 8, 2])),
    "columns": (torch.tensor([[0], [3], [8], [1]]), torch.tensor([[0], [5], [8], [2]])),
}


def losses(head, overrides, targets):
    """Outputs with a loss, of the dense model and of its compact twin, in float64."""
    dense = tiny_bert(head, **overrides).double()
    twin = twin_of(dense)
    targets = {name: x.double() if x.is_floating_point() else x for name, x in targets.items()}
    return dense(**tiny_batch(), **targets), twin(**tiny_batch(), **targets)


@pytest.mark.filterwarnings("ignore:Using a target size")  # BERT's own loss, of a column of labels
@pytest.mark.parametrize("name", sorted(SEQUENCE_LOSSES))
def test_sequence_loss_equals_dense(name):
    overrides, labels = SEQUENCE_LOSSES[name]
    expected, found = losses("sequence-classification", overrides, {"labels": labels})
    assert largest_gap(expected, found) < 1e-12


def test_regression_takes_whole_numbers():
    model = tiny_compact(num_labels=1)
    whole = torch.tensor([1, 2, 3, 4])
    assert model(**tiny_batch(), labels=whole).loss == model(**tiny_batch(), labels=whole.float()).loss


def test_the_loss_does_not_write_into_the_configuration():
    model = tiny_compact(num_labels=3)
    model(**tiny_batch(), labels=CLASSES)
    assert model.config.problem_type is None


def test_token_loss_equals_dense_and_leaves_ignored_tokens_out():
    expected, found = losses("token-classification", {"num_labels": 3}, TOKEN_TARGETS)
    assert largest_gap(expected, found) < 1e-12


def test_masked_lm_loss_equals_dense_and_leaves_ignored_tokens_out():
    expected, found = losses("masked-lm", {}, TOKEN_TARGETS)
    assert largest_gap(expected, found) < 1e-12


@pytest.mark.parametrize("name", sorted(SPANS))
def test_question_answering_loss_equals_dense(name):
    start, end = SPANS[name]
    expected, found = losses("question-answering", {}, {"start_positions": start, "end_positions": end})
    assert largest_gap(expected, found) < 1e-12


def test_a_span_needs_both_ends():
    assert tiny_compact("question-answering")(**tiny_batch(), start_positions=CLASSES).loss is None


@pytest.mark.parametrize("head", [head for head in HEADS if head != "encoder"])
def test_without_labels_there_is_no_loss(head):
    assert tiny_compact(head)(**tiny_batch()).loss is None


def test_the_loss_comes_first_in_a_tuple():
    model = tiny_compact(num_labels=3)
    loss, logits = model(**tiny_batch(), labels=CLASSES, return_dict=False)
    expected = model(**tiny_batch(), labels=CLASSES)
    assert torch.equal(loss, expected.loss)
    assert torch.equal(logits, expected.logits)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_carry_the_names_of_bert(head, tied):
    dense = tiny_bert(head, tie_word_embeddings=tied)
    assert dense.state_dict().keys() == twin_of(dense).state_dict().keys()


def test_an_untied_decoder_has_its_own_weight():
    model = tiny_compact("masked-lm", tie_word_embeddings=False)
    assert model.cls.predictions.decoder.weight is not model.get_input_embeddings().weight


def test_the_output_embeddings_can_be_replaced_with_their_bias():
    model = tiny_compact("masked-lm")
    other = torch.nn.Linear(16, len(VOCAB))
    model.set_output_embeddings(other)
    assert model.get_output_embeddings() is other
    assert model.cls.predictions.bias is other.bias


@pytest.mark.parametrize("head", ["sequence-classification", "token-classification"])
def test_the_classifier_has_its_own_dropout(head):
    assert tiny_compact(head, classifier_dropout=0.7).dropout.p == 0.7
    assert tiny_compact(head, hidden_dropout_prob=0.2).dropout.p == 0.2


@pytest.mark.parametrize("head", HEADS)
def test_forward_names_the_columns_of_dense_bert(head):
    """The Trainer drops the columns of a data set that the signature does not name."""
    dense, compact = (inspect.signature(x[head].forward).parameters for x in (DENSE_CLASSES, HEAD_CLASSES))
    other = {"kwargs", "head_mask", "encoder_hidden_states", "encoder_attention_mask", "past_key_values"}
    other |= {"use_cache", "cache_position", "return_dict", "output_attentions", "output_hidden_states"}
    assert set(dense) - other <= set(compact)


def examples(count=16):
    """Texts whose label is the parity of their first word: learnable in a few steps."""
    batch = tiny_batch(rows=count, length=6, padding="none")
    labels = batch["input_ids"][:, 1] % 2
    rows = [{name: tensor[i] for name, tensor in batch.items()} | {"labels": labels[i]} for i in range(count)]
    return [row | {"not_for_the_model": i} for i, row in enumerate(rows)]


def train(model, folder, **options):
    settings = {"max_steps": 30, "learning_rate": 3e-3, "per_device_train_batch_size": 16, "logging_steps": 1}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no"}
    arguments = TrainingArguments(folder, dataloader_pin_memory=False, **(quiet | settings | options))
    trainer = Trainer(model=model, args=arguments, train_dataset=examples())
    trainer.train()
    return trainer


def test_the_trainer_trains_it_and_passes_token_types(tmp_path, capsys):
    model = pruned_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    seen = set()
    model.register_forward_pre_hook(lambda _module, _args, kwargs: seen.update(kwargs), with_kwargs=True)
    trainer = train(model, tmp_path)
    curve = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert float(curve[-1]) < 0.5 * float(curve[0])
    assert seen >= {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert "not_for_the_model" not in seen


def test_the_trainer_accumulates_gradients_as_one_large_batch(tmp_path, capsys):
    weights = []
    for split in (1, 4):
        model = pruned_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        train(
            model, tmp_path, max_steps=2, optim="sgd", learning_rate=0.1, max_grad_norm=0.0, seed=3,
            per_device_train_batch_size=16 // split, gradient_accumulation_steps=split,
        )  # fmt: skip
        weights.append(model.classifier.weight)
    torch.testing.assert_close(*weights)
