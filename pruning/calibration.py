"""Unlabelled text in three disjoint sets: one to fit on, one to choose with, one to report with.

A divergence measured on the texts that chose the model is worth nothing, so the three never overlap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from pruning.batching import Batch, bucketed_batches, encode
from pruning.errors import InputError

BATCH_SIZE = 32
FEWEST_TEXTS = 12
SHORT_TEXT = 3
"""Tokens, beside the special ones, that a calibration text should have on average."""
UNKNOWN_SHARE = 0.1
"""Of all tokens: above this, the texts have little to do with the model."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Padded batches of similar length, (B, S) each, for the three uses; and what a person should know about them."""

    fit: tuple[Batch, ...]
    select: tuple[Batch, ...]
    report: tuple[Batch, ...]
    warnings: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Number of texts in each set."""
        fit, select, report = (sum(len(b["input_ids"]) for b in x) for x in (self.fit, self.select, self.report))
        return fit, select, report


def calibration_from_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    examples: int = 1024,
    max_length: int = 128,
    seed: int = 0,
) -> Calibration:
    """Draw ``examples`` texts to fit on, and a quarter as many for each of the other two sets.

    A text's chance to be drawn is proportional to its length: the layers see words, not texts, and a data set of many
    short phrases would otherwise hardly show what the model does with long ones. Fewer texts are split in the same
    proportion. Duplicates are used once, blank texts not at all. Texts that say little, because they are very short or
    hardly in the tokenizer's vocabulary, are used with a warning.

    Raises:
        InputError: if there are fewer than 12 different texts, or not one pair per text.
    """
    if pairs is not None and len(pairs) != len(texts):
        raise InputError(f"every text needs its pair; got {len(texts)} texts and {len(pairs)} pairs.")
    unique = list(dict.fromkeys(zip(texts, pairs if pairs is not None else [""] * len(texts), strict=True)))
    unique = [row for row in unique if row[0].strip() or row[1].strip()]
    if len(unique) < FEWEST_TEXTS:
        raise InputError(
            f"calibration needs at least {FEWEST_TEXTS} different texts; got {len(unique)}. Pass more data."
        )
    fit = min(examples, len(unique) * 2 // 3)
    other = max(fit // 4, 2)
    rows = drawn_by_length(unique, fit + 2 * other, seed)
    parts = (rows[:fit], rows[fit : fit + other], rows[fit + other :])
    batches = [_batches(tokenizer, part, pairs is not None, max_length) for part in parts]
    return Calibration(batches[0], batches[1], batches[2], _warnings(tokenizer, batches[0]))


def drawn_by_length(rows: Sequence[tuple[str, str]], count: int, seed: int) -> list[tuple[str, str]]:
    """At most ``count`` rows in random order, drawn without replacement with chances proportional to their words.

    Source: Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006.
    """
    rng = random.Random(seed)
    keys = [rng.random() ** (1 / max(1, len(f"{first} {second}".split()))) for first, second in rows]
    chosen = sorted(range(len(rows)), key=keys.__getitem__, reverse=True)[:count]
    rng.shuffle(chosen)  # the rows drawn first are long: the three sets shall be alike
    return [rows[index] for index in chosen]


def _warnings(tokenizer: PreTrainedTokenizerBase, batches: Sequence[Batch]) -> tuple[str, ...]:
    tokens = torch.cat([batch["input_ids"][batch["attention_mask"].bool()] for batch in batches])
    unknown = tokens == (-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id)
    words = int((~torch.isin(tokens, torch.tensor(tokenizer.all_special_ids)) | unknown).sum())
    texts = sum(len(batch["input_ids"]) for batch in batches)
    found = []
    if words < SHORT_TEXT * texts:
        found.append(
            f"calibration texts have {words / texts:.1f} tokens on average: too short to show what the model does with "
            "real input. Pass longer texts."
        )
    if int(unknown.sum()) > UNKNOWN_SHARE * words:
        found.append(
            f"{int(unknown.sum()) / words:.0%} of the calibration tokens are not in the vocabulary. Pass texts in the "
            "language and script that the model was trained on."
        )
    return tuple(found)


def _batches(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[str, str]], paired: bool, max_length: int
) -> tuple[Batch, ...]:
    second = [row[1] for row in rows] if paired else None
    encodings = encode(tokenizer, [row[0] for row in rows], second, max_length=max_length)
    return tuple(item.batch for item in bucketed_batches(encodings, BATCH_SIZE))
