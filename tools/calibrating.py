"""The calibration texts of a command: from its rows, as its model reads them."""

from __future__ import annotations

from pruning.calibration import Calibration, calibration_from_texts
from pruning.checkpoint import Checkpoint
from pruning.tasks.reading import rows_as_read
from pruning.tasks.text_data import TextData


def calibration_from_rows(
    dense: Checkpoint, rows: TextData, *, examples: int, max_length: int, seed: int
) -> Calibration:
    """See `pruning.calibration.calibration_from_texts`.

    Raises:
        InputError: if there are too few different texts.
    """
    read = rows_as_read(dense.model, rows)
    return calibration_from_texts(
        dense.tokenizer, read.texts, read.pairs, examples=examples, max_length=max_length, seed=seed
    )
