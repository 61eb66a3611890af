"""Real text for parity: token ids that are stored with the artifacts, so that the check can be repeated offline.

Letters: B batch, S sequence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pruning.batching import Batch, Encodings, bucketed_batches
from pruning.errors import InputError

ROWS = 32


def text_batches(texts: Encodings) -> dict[str, Batch]:
    """All texts in padded batches of similar length: each text once, masks as in production."""
    return {f"texts {index + 1}": item.batch for index, item in enumerate(bucketed_batches(texts, ROWS))}


def text_cases(texts: Encodings) -> dict[str, Batch]:
    """Batches of real text of several shapes and masks: all texts, one alone, padded on the left, and with holes."""
    few = texts.padded(range(min(4, len(texts))))
    return {
        **text_batches(texts),
        "one text": texts.padded([0]),
        "texts padded on the left": _left_padded(few),
        "texts with holes": few | {"attention_mask": _with_holes(few["attention_mask"])},
    }


def texts_to_json(texts: Encodings) -> dict[str, Any]:
    """Plain data; see `texts_from_file`."""
    return {"pad_id": texts.pad_id, "input_ids": texts.input_ids, "token_type_ids": texts.token_type_ids}


def texts_from_file(path: Path) -> Encodings:
    """Read a JSON file of `texts_to_json`.

    Raises:
        InputError: if it cannot be read or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        ids, types = (tuple(tuple(map(int, row)) for row in data[name]) for name in ("input_ids", "token_type_ids"))
        return Encodings(ids, types, int(data["pad_id"]))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} holds no token ids ({error!r}). Run again into another folder.") from error


def _left_padded(batch: Batch) -> Batch:
    """The same rows with their padding moved to the left."""
    shifts = (batch["attention_mask"] == 0).sum(1).tolist()  # (B,)
    return {
        name: torch.stack([row.roll(shift) for row, shift in zip(tensor, shifts, strict=True)])
        for name, tensor in batch.items()
    }


def _with_holes(mask: torch.Tensor) -> torch.Tensor:
    """Every third token is masked, the first one kept: (B, S)."""
    position = torch.arange(mask.shape[1])
    return mask * (position % 3 != 2)
