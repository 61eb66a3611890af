"""The parts of the distillation loss against their formulas, and what a student may learn from."""

import pytest
import torch
from torch.nn import functional as F

from pruning.batching import encode
from pruning.compaction import compact_from_masked
from pruning.distillation import Distillation, DistillationOptions, answer_loss, check_teacher, hidden_loss
from pruning.errors import InputError
from pruning.tasks.task import EvaluationSettings
from pruning.tasks.text_classification import TextClassification
from pruning.tasks.text_data import TextData
from pruning.training import TrainingOptions, train
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer

TEXTS = ("a good cat", "the bad dog sat on the mat", "good good bird", "a bad bad house under the tree") * 6
ENCODINGS = encode(tiny_tokenizer(), TEXTS)


def outputs(head, seed, batch, **overrides):
    with torch.no_grad():
        return tiny_bert(head, seed=seed, **overrides)(**batch, output_hidden_states=True)


def test_answers_of_classifiers():
    batch = tiny_batch()
    teacher, student = (outputs("sequence-classification", seed, batch) for seed in (0, 1))
    expected = 9 * F.kl_div(
        (student["logits"].double() / 3).log_softmax(-1),
        (teacher["logits"].double() / 3).softmax(-1),
        reduction="batchmean",
    )
    assert answer_loss(teacher, student, batch, 3.0).item() == pytest.approx(expected.item())


def test_answers_about_spans_are_averaged_over_start_and_end_and_ignore_padding():
    batch = tiny_batch()
    teacher, student = (outputs("question-answering", seed, batch) for seed in (0, 1))
    expected = 0.0
    for name in ("start_logits", "end_logits"):
        for row, mask in enumerate(batch["attention_mask"].bool()):
            p, q = ((x[name][row, mask].double() / 2).log_softmax(-1) for x in (teacher, student))
            expected += 4 * float((p.exp() * (p - q)).sum()) / len(batch["attention_mask"]) / 2
    assert answer_loss(teacher, student, batch, 2.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(("head", "overrides"), [("encoder", {}), ("sequence-classification", {"num_labels": 1})])
def test_what_has_no_temperature_counts_as_it_is(head, overrides):
    batch = tiny_batch()
    teacher, student = (outputs(head, seed, batch, **overrides) for seed in (0, 1))
    losses = [answer_loss(teacher, student, batch, temperature).item() for temperature in (1.0, 4.0)]
    assert losses[0] == losses[1] > 0


def test_hidden_states_relative_to_the_teachers_without_padding():
    batch = tiny_batch()
    teacher, student = (outputs("encoder", seed, batch)["hidden_states"] for seed in (0, 1))
    kept = batch["attention_mask"].bool()
    distance = sum((a[kept] - b[kept]).square().sum() for a, b in zip(teacher[1:], student[1:], strict=True))
    size = sum(a[kept].square().sum() for a in teacher[1:])
    assert hidden_loss(teacher, student, batch["attention_mask"]).item() == pytest.approx(float(distance / size))
    spoilt = tuple(state.masked_fill(~kept[..., None], 99.0) for state in student)
    assert hidden_loss(teacher, spoilt, batch["attention_mask"]).item() == pytest.approx(float(distance / size))


def test_the_loss_is_the_weighted_sum_of_its_parts():
    data = TextData(TEXTS, labels=tuple(index % 2 for index in range(len(TEXTS))))
    settings = EvaluationSettings(labels=("neg", "pos"))
    truth = TextClassification().objective(tiny_tokenizer(), data, settings)
    teacher, student = tiny_bert(), tiny_bert(seed=1)

    def loss(**weights):
        objective = Distillation(teacher, ENCODINGS, DistillationOptions(**({"logits": 0.0} | weights)), truth)
        return objective.loss(student, objective.batch([0, 1, 5])).item()

    parts = [loss(logits=1.0), loss(hidden=1.0), loss(truth=1.0)]
    assert all(part > 0 for part in parts)
    expected = 2 * parts[0] + 3 * parts[1] + 0.5 * parts[2]
    assert loss(logits=2.0, hidden=3.0, truth=0.5) == pytest.approx(expected)


def test_a_student_that_is_its_teacher_has_no_loss_and_the_teacher_no_gradient():
    teacher = tiny_bert()
    student = compact_from_masked(teacher)
    objective = Distillation(teacher, ENCODINGS, DistillationOptions(hidden=1.0))
    loss = objective.loss(student, objective.batch([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_training_brings_the_student_closer(tmp_path):
    objective = Distillation(tiny_bert(), ENCODINGS, DistillationOptions(hidden=0.5))
    student, batch = tiny_bert(seed=1), objective.batch(range(len(TEXTS)))
    before = objective.loss(student, batch).item()
    train(student, objective, TrainingOptions(epochs=5, batch_size=8, learning_rate=2e-3, cpu=True), tmp_path)
    assert objective.loss(student, batch).item() < 0.7 * before


@pytest.mark.parametrize("values", [{"temperature": 0.0}, {"logits": -1.0}, {"logits": 0.0}, {"hidden": -0.1}], ids=str)
def test_options_that_make_no_sense(values):
    with pytest.raises(InputError, match="distillation needs a temperature above 0, and weights of at least 0"):
        DistillationOptions(**values)


def test_labels_asked_for_but_not_there():
    with pytest.raises(InputError, match=r"a weight of 0.5 on the labels needs labelled data"):
        Distillation(tiny_bert(), ENCODINGS, DistillationOptions(truth=0.5))


def test_labels_of_other_texts():
    data = TextData(TEXTS[:3], labels=(0, 1, 0))
    truth = TextClassification().objective(tiny_tokenizer(), data, EvaluationSettings(labels=("a", "b")))
    with pytest.raises(InputError, match="the labelled texts are not the texts to distil on"):
        Distillation(tiny_bert(), ENCODINGS, DistillationOptions(truth=0.5), truth)


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (("encoder", {}), {}, "the teacher's head is encoder, the student's sequence-classification"),
        (("sequence-classification", {"num_labels": 3}), {}, "the teacher has 3 classes, the student 2"),
        (("sequence-classification", {"vocab_size": 50}), {}, "the teacher has 50 token ids, the student 29"),
        (
            ("sequence-classification", {"num_hidden_layers": 4}),
            {"hidden": 1.0},
            "the teacher has 4 layers of hidden size 16, the student 3 of 16",
        ),
    ],
)
def test_teachers_that_do_not_fit(teacher, options, message):
    with pytest.raises(InputError, match=message):
        check_teacher(tiny_bert(teacher[0], **teacher[1]), tiny_bert(), DistillationOptions(**options))


def test_a_larger_teacher_fits_where_only_answers_count():
    check_teacher(tiny_bert(num_hidden_layers=5, hidden_size=32), tiny_bert(), DistillationOptions())


def test_texts_come_from_the_labelled_objective_where_none_are_given():
    teacher, data = tiny_bert(), TextData(TEXTS, labels=tuple(i % 2 for i in range(len(TEXTS))))
    truth = TextClassification().objective(tiny_tokenizer(), data, EvaluationSettings(("0", "1")))
    both = Distillation(teacher, ENCODINGS, DistillationOptions(truth=0.1), truth)
    alone = Distillation(teacher, None, DistillationOptions(truth=0.1), truth)
    assert alone.lengths == both.lengths
    assert all(torch.equal(a, b) for a, b in zip(alone.batch([1]).values(), both.batch([1]).values(), strict=True))
    with pytest.raises(InputError, match="with labels or without; there are neither"):
        Distillation(teacher, None, DistillationOptions())
