"""The calibration texts of a command: from its rows, as its model reads them."""

from __future__ import annotations

from pruning.calibration import Calibration, calibration_from_texts
from pruning.checkpoint import Checkpoint
from pruning.tasks.text_data import TextData


def calibration_from_rows(
    dense: Checkpoint, rows: TextData, *, examples: int, max_length: int, seed: int
) -> Calibration:
    """See `pruning.calibration.calibration_from_texts`; texts are cut where the model's positions end.

    Raises:
        InputError: if there are too few different texts.
    """
    longest = min(max_length, dense.model.config.max_position_embeddings)
    return calibration_from_texts(
        dense.tokenizer, rows.texts, rows.pairs, examples=examples, max_length=longest, seed=seed
    )
