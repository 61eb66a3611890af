"""Question answering from the command line: train, prune by movement, fill, export; every form gives the same score."""

from __future__ import annotations

import json
import random

import pytest

from pruning.checkpoint import save_checkpoint
from tests.pruning.movement.models import fine_bert
from tests.tiny import WORDS, tiny_bert, tiny_tokenizer

TASK = ("--task", "question-answering", "--data", "squad.json")
SHORT = ("--max-length", "16", "--cpu", "--batch-size", "8")
PRUNE = ("prune", "my-bert", "--method", "block-movement", *TASK, *SHORT, "--block", "4x4", "--density", "0.5")


def squad(questions=12, words=20, seed=0):
    """SQuAD v2: contexts of ``words`` words, which take several windows of 16 tokens; every fourth has no answer."""
    generator, paragraphs = random.Random(seed), []
    for number in range(questions):
        context = generator.choices(WORDS.split(), k=words)
        place = generator.randrange(words)
        start = len(" ".join([*context[:place], ""]))
        answers = [] if number % 4 == 3 else [{"text": context[place], "answer_start": start}]
        question = {"id": str(number), "question": "where is the cat", "answers": answers}
        paragraphs.append({"context": " ".join(context), "qas": [question | {"is_impossible": not answers}]})
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}


@pytest.fixture
def questions(tmp_path, monkeypatch):
    """The current folder holds ``my-bert``, which answers questions, and ``squad.json``."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(fine_bert("question-answering"), tiny_tokenizer(), tmp_path / "my-bert")
    (tmp_path / "squad.json").write_text(json.dumps(squad()))
    return tmp_path


def test_finetune_prune_and_export_score_alike(questions, slimbert):
    code, out, error = slimbert("finetune", "my-bert", *TASK, *SHORT, "--epochs", "1", "--out", "dense", "--json")
    assert code == 0, error
    assert json.loads(out)["metric"]["name"] == "f1"
    arguments = ("prune", "dense", *PRUNE[2:], "--epochs", "2", "--fill-epochs", "1", "--eval-data", "squad.json")
    code, out, error = slimbert(*arguments, "--out", "small", "--json")
    assert code == 0, error
    facts = json.loads(out)
    assert facts["record"]["density"] == pytest.approx(0.5, rel=0.03)
    assert facts["record"]["schedule"]["total_steps"] > 2 * 9 / 8  # windows, not questions
    assert {"exact_match", "f1_unanswerable"} <= set(facts["candidate"]["others"])
    code, _, error = slimbert("export", "small", "--out", "exported", "--quiet")
    assert code == 0, error
    for model in ("small", "exported"):
        code, out, error = slimbert("eval", model, *TASK, "--eval-data", "squad.json", "--max-length", "16", "--json")
        assert code == 0, error
        scored = json.loads(out)
        assert (scored["metric"], scored["others"]) == (facts["candidate"]["metric"], facts["candidate"]["others"])


def test_default_length_is_that_of_the_task_as_far_as_positions_go(questions, slimbert):
    save_checkpoint(
        tiny_bert("question-answering", max_position_embeddings=400), tiny_tokenizer(), questions / "long-bert"
    )
    asked = [slimbert("eval", model, *TASK, "--json") for model in ("my-bert", "long-bert")]
    assert [code for code, _, _ in asked] == [0, 0]
    code, _, error = slimbert("eval", "my-bert", *TASK, "--max-length", "400", "--json")
    assert (code, "--max-length must be 2 to 40, the positions of the model; got 400" in error) == (2, True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item["answers"].append({"text": "mouse", "answer_start": 3}), "does not stand at character 3"),
        (lambda item: item["answers"][0].update(answer_start=10_000), "does not stand at character 10000"),
        (lambda item: item.pop("answers"), "not the layout of SQuAD"),
    ],
)
def test_answers_outside_their_context_are_one_line(questions, slimbert, change, message):
    document = squad()
    change(document["data"][0]["paragraphs"][0]["qas"][0])
    (questions / "squad.json").write_text(json.dumps(document))
    for arguments in ((*PRUNE, "--out", "out"), ("finetune", "my-bert", *TASK, "--out", "out")):
        code, _, error = slimbert(*arguments, "--quiet")
        assert (code, message in error, "Traceback" in error) == (2, True, False), error
        assert not (questions / "out").exists()


def test_contexts_beyond_the_positions_are_windows_unless_more_is_asked_for(questions, slimbert):
    for arguments in ((*PRUNE, "--out", "out"), ("finetune", "my-bert", *TASK, "--out", "out")):
        code, _, error = slimbert(*arguments, "--max-length", "64", "--quiet")
        assert (code, "--max-length must be 2 to 40, the positions of the model; got 64" in error) == (2, True), error
        assert not (questions / "out").exists()


def test_a_classifier_answers_no_questions(questions, slimbert):
    save_checkpoint(tiny_bert(), tiny_tokenizer(), questions / "my-bert")
    code, _, error = slimbert(*PRUNE, "--out", "out", "--quiet")
    assert (code, "needs a model with a question-answering head" in error) == (2, True)
