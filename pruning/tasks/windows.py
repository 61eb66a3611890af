"""Questions and their contexts as windows that fit a model: a long context gives several that overlap.

Letters: N questions, F windows, S tokens of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from pruning.batching import Encodings
from pruning.errors import InputError
from pruning.tasks.answers import Answers
from pruning.tasks.text_data import TextData

MAX_QUESTION_TOKENS = 64
OVERLAP_TOKENS = 128
SHORTEST_WINDOW = 8
"""Two tokens of the question, two of the context, and the special ones."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Windows:
    """``[CLS] question [SEP] part of the context [SEP]``, F times.

    ``questions`` (F,) says whose window it is, in ascending order; ``offsets`` holds for each window the first and the
    last character (exclusive) of its tokens in the context, (S, 2), -1 where a token is none of the context.
    """

    encodings: Encodings
    questions: Ints
    offsets: tuple[Ints, ...]

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True)
class Template:
    """What a tokenizer puts around a pair: special tokens before, between and behind, and token types.

    ``types`` are those of the five parts: before, question, between, context, behind.
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]
    types: tuple[int, int, int, int, int]

    @property
    def special_tokens(self) -> int:
        """How many."""
        return len(self.before) + len(self.between) + len(self.behind)

    def ids(self, question: Sequence[int], context: Sequence[int]) -> tuple[int, ...]:
        """The window of both."""
        return (*self.before, *question, *self.between, *context, *self.behind)

    def token_types(self, question: int, context: int) -> tuple[int, ...]:
        """Of a window with so many tokens of either."""
        lengths = (len(self.before), question, len(self.between), context, len(self.behind))
        return tuple(kind for kind, length in zip(self.types, lengths, strict=True) for _ in range(length))

    def context_start(self, question: int) -> int:
        """Where the context begins after so many tokens of the question."""
        return len(self.before) + question + len(self.between)


@dataclass(frozen=True, eq=False)
class _TokenisedContext:
    ids: tuple[int, ...]
    offsets: Ints  # (tokens, 2)


def windows_from_questions(
    tokenizer: PreTrainedTokenizerBase, data: TextData, *, max_length: int, overlap: int = OVERLAP_TOKENS
) -> Windows:
    """Cut every context into windows of at most ``max_length`` tokens that overlap by ``overlap`` tokens.

    Questions are cut to 64 tokens, or half of the window; the overlap to half of what the longest question leaves. A
    context with many questions is tokenised once.

    Raises:
        InputError: if there are no contexts, the tokenizer is a slow one (it cannot tell characters), or windows are
            too short for a question and a context.
    """
    contexts = require_contexts(data)
    if not tokenizer.is_fast:
        raise InputError("question-answering needs a fast tokenizer (tokenizer.json). Convert it with transformers.")
    limit = min(max_length, tokenizer.model_max_length)
    if limit < SHORTEST_WINDOW:
        raise InputError(f"windows need at least {SHORTEST_WINDOW} tokens; got {limit}. Raise --max-length.")
    template = template_from_tokenizer(tokenizer)
    questions = _question_ids(tokenizer, data.texts, min(MAX_QUESTION_TOKENS, limit // 2))
    room = limit - max(map(len, questions)) - template.special_tokens
    tokenised = _tokenised_contexts(tokenizer, contexts)
    ids, types, whose, offsets = [], [], [], []
    for number, (question, text) in enumerate(zip(questions, contexts, strict=True)):
        context, begin = tokenised[text], template.context_start(len(question))
        longest = limit - len(question) - template.special_tokens
        for start, stop in _ranges(len(context.ids), longest, longest - min(overlap, max(room // 2, 0))):
            ids.append(template.ids(question, context.ids[start:stop]))
            types.append(template.token_types(len(question), stop - start))
            whose.append(number)
            offsets.append(_placed(context.offsets[start:stop], begin, len(ids[-1])))
    encodings = Encodings(tuple(ids), tuple(types), pad_id=int(tokenizer.pad_token_id))
    return Windows(encodings, np.array(whose, dtype=np.int64), tuple(offsets))


def template_from_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Template:
    """The template, read off a pair of words."""
    encoded = tokenizer("a", "a", return_token_type_ids=True, verbose=False)
    ids, types, sequence = encoded["input_ids"], encoded["token_type_ids"], encoded.sequence_ids(0)
    question, context = sequence.index(0), sequence.index(1)
    between, behind = question + sequence.count(0), context + sequence.count(1)
    return Template(
        before=tuple(ids[:question]),
        between=tuple(ids[between:context]),
        behind=tuple(ids[behind:]),
        types=(types[0], types[question], types[context - 1], types[context], types[-1]),
    )


def positions_from_answers(windows: Windows, answers: Sequence[Answers]) -> tuple[Tensor, Tensor]:
    """The first and the last token of each window's answer, two int64 tensors (F,); 0 (``[CLS]``) where there is none.

    The first of a question's answers counts. A window that holds only a part of it has none.
    """
    positions = [
        _position(offsets, answers[question])
        for offsets, question in zip(windows.offsets, windows.questions, strict=True)
    ]
    first, last = torch.tensor(positions, dtype=torch.int64).T
    return first, last


def require_contexts(data: TextData) -> tuple[str, ...]:
    """The contexts of the questions.

    Raises:
        InputError: if there are none.
    """
    if data.pairs is None:
        raise InputError(
            "question-answering needs a context beside every question; the data have none. "
            "Pass SQuAD JSON, or columns named question, context and answers."
        )
    return data.pairs


def _question_ids(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], limit: int) -> list[tuple[int, ...]]:
    """The first ``limit`` tokens of each question, without spaces around it."""
    texts = [question.strip() for question in questions]
    return [tuple(ids[:limit]) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]


def _tokenised_contexts(tokenizer: PreTrainedTokenizerBase, contexts: Sequence[str]) -> dict[str, _TokenisedContext]:
    """Every distinct context, tokenised in one call."""
    distinct = list(dict.fromkeys(contexts))
    encoded = tokenizer(distinct, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return {
        text: _TokenisedContext(tuple(ids), np.array(offsets, dtype=np.int64).reshape(-1, 2))
        for text, ids, offsets in zip(distinct, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    }


def _ranges(tokens: int, longest: int, step: int) -> list[tuple[int, int]]:
    """First and last token (exclusive) of each window over so many tokens; one window if there are none."""
    windows = max(0, -((longest - tokens) // step)) + 1
    return [(index * step, min(index * step + longest, tokens)) for index in range(windows)]


def _placed(offsets: Ints, begin: int, length: int) -> Ints:
    """``offsets`` (tokens, 2) from row ``begin`` on, -1 in the other rows of (length, 2)."""
    placed = np.full((length, 2), -1, dtype=np.int64)
    placed[begin : begin + len(offsets)] = offsets
    return placed


def _position(offsets: Ints, answers: Answers) -> tuple[int, int]:
    if not answers:
        return 0, 0
    start, end = answers[0].start, answers[0].start + len(answers[0].text)
    in_context = offsets[:, 0] >= 0
    first = np.flatnonzero(in_context & (offsets[:, 0] <= start) & (offsets[:, 1] > start))
    last = np.flatnonzero(in_context & (offsets[:, 0] < end) & (offsets[:, 1] >= end))
    return (int(first[0]), int(last[0])) if first.size and last.size else (0, 0)
