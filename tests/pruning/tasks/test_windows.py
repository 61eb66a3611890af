"""Windows over long contexts, and where answers lie in them."""

import pytest

from pruning.errors import InputError
from pruning.tasks.answers import Answer
from pruning.tasks.text_data import TextData
from pruning.tasks.windows import positions_from_answers, windows_from_questions
from tests.tiny import VOCAB, tiny_tokenizer

WORDS = {index: word for word, index in VOCAB.items()}
CONTEXT = "the cat sat under a tree and the dog ran on the mat"  # "and" is unknown
SHORT = "a bird flew"


def windows(questions=("who sat", "who ran"), contexts=(CONTEXT, SHORT), **options):
    return windows_from_questions(tiny_tokenizer(), TextData(questions, contexts), **({"max_length": 12} | options))


def words_of(found, index):
    return [WORDS[token] for token in found.encodings.input_ids[index]]


def test_every_context_token_is_in_a_window_with_the_question():
    found = windows(overlap=2)
    assert found.questions.tolist() == [0] * (len(found) - 1) + [1]
    covered = set()
    for index in range(len(found) - 1):
        ids = words_of(found, index)
        assert ids[:4] == ["[CLS]", "[UNK]", "sat", "[SEP]"]
        assert ids[-1] == "[SEP]"
        assert len(ids) <= 12
        covered |= {tuple(pair) for pair in found.offsets[index].tolist() if pair[0] >= 0}
    assert {CONTEXT[a:b] for a, b in covered} == set(CONTEXT.split())
    assert len(covered) == len(CONTEXT.split())


def test_windows_overlap():
    first, second = windows(overlap=2).offsets[:2]
    inside = [{tuple(x) for x in part.tolist() if x[0] >= 0} for part in (first, second)]
    assert len(inside[0] & inside[1]) == 2


def test_offsets_are_those_of_the_context_alone():
    found = windows()
    for offsets, question in zip(found.offsets, found.questions, strict=True):
        text = (CONTEXT, SHORT)[question]
        assert (offsets[[0, 1, 2, 3, -1]] == -1).all()
        assert all(text[a:b] for a, b in offsets[4:-1].tolist())


def test_positions_of_answers():
    found = windows(overlap=4)
    cat, dog = Answer("the cat", 0), Answer("dog", CONTEXT.index("dog"))
    first, last = positions_from_answers(found, [(cat, dog), ()])
    assert (first[0], last[0]) == (4, 5)
    assert first[1:].tolist() == [0] * (len(found) - 1)
    first, last = positions_from_answers(found, [(dog,), ()])
    for index in range(len(found)):
        inside = "dog" in words_of(found, index)
        assert (words_of(found, index)[first[index]] == "dog") == inside
        assert (first[index] > 0) == inside
        assert first[index] == last[index]


def test_answer_cut_by_the_window_is_none():
    found = windows(overlap=0)
    end = found.offsets[0][-2][1]  # of the first window
    start = CONTEXT.rindex(" ", 0, CONTEXT.rindex(" ", 0, int(end))) + 1
    answer = Answer(CONTEXT[start : int(end) + 4], start)
    first, _ = positions_from_answers(found, [(answer,), ()])
    assert first.tolist() == [0] * len(found)


def test_long_questions_are_cut():
    found = windows(questions=(" cat" * 30, "who"), max_length=12)
    ids = words_of(found, 0)
    assert ids[:8] == ["[CLS]", *["cat"] * 6, "[SEP]"]
    assert len(ids) == 12


def test_no_contexts_are_refused():
    with pytest.raises(InputError, match="needs a context beside every question; the data have none"):
        windows_from_questions(tiny_tokenizer(), TextData(("who",)), max_length=12)


def test_windows_too_short_are_refused():
    with pytest.raises(InputError, match="windows need at least 8 tokens; got 7"):
        windows(max_length=7)


def test_slow_tokenizers_are_refused(monkeypatch):
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(InputError, match="needs a fast tokenizer"):
        windows_from_questions(tokenizer, TextData(("who",), (SHORT,)), max_length=12)
