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


def windows_from_questions(
    tokenizer: PreTrainedTokenizerBase, data: TextData, *, max_length: int, overlap: int = OVERLAP_TOKENS
) -> Windows:
    """Cut every context into windows of at most ``max_length`` tokens that overlap by ``overlap`` tokens.

    Questions are cut to 64 tokens, or half of the window; the overlap to half of what the longest question leaves.

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
    questions, longest = _cut_questions(tokenizer, data.texts, min(MAX_QUESTION_TOKENS, limit // 2))
    room = limit - longest - tokenizer.num_special_tokens_to_add(pair=True)
    encoded = tokenizer(
        questions,
        list(contexts),
        truncation="only_second",
        max_length=limit,
        stride=min(overlap, max(room // 2, 0)),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        return_attention_mask=False,
        verbose=False,
    )
    of_context = [encoded.sequence_ids(index) for index in range(len(encoded["input_ids"]))]
    return Windows(
        Encodings(
            input_ids=tuple(map(tuple, encoded["input_ids"])),
            token_type_ids=tuple(map(tuple, encoded["token_type_ids"])),
            pad_id=int(tokenizer.pad_token_id),
        ),
        np.asarray(encoded["overflow_to_sample_mapping"], dtype=np.int64),
        tuple(map(_context_offsets, encoded["offset_mapping"], of_context)),
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


def _cut_questions(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], limit: int) -> tuple[list[str], int]:
    """The questions without spaces around them and what is beyond ``limit`` tokens, and the tokens of the longest."""
    texts = [question.strip() for question in questions]
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    cut = [
        text if len(tokens) <= limit else text[: tokens[limit - 1][1]]
        for text, tokens in zip(texts, offsets, strict=True)
    ]
    return cut, min(limit, max(map(len, offsets)))


def _context_offsets(offsets: Sequence[tuple[int, int]], sequence: Sequence[int | None]) -> Ints:
    found = np.asarray(offsets, dtype=np.int64)  # (S, 2)
    found[[which != 1 for which in sequence]] = -1
    return found


def _position(offsets: Ints, answers: Answers) -> tuple[int, int]:
    if not answers:
        return 0, 0
    start, end = answers[0].start, answers[0].start + len(answers[0].text)
    in_context = offsets[:, 0] >= 0
    first = np.flatnonzero(in_context & (offsets[:, 0] <= start) & (offsets[:, 1] > start))
    last = np.flatnonzero(in_context & (offsets[:, 0] < end) & (offsets[:, 1] >= end))
    return (int(first[0]), int(last[0])) if first.size and last.size else (0, 0)
