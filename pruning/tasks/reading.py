"""Data as a model reads them: both texts of a pair at once, or, where it embeds, each text by itself."""

from __future__ import annotations

from transformers import PreTrainedModel

from pruning.introspect import head_from_model
from pruning.tasks.text_data import TextData


def rows_as_read(model: PreTrainedModel, rows: TextData) -> TextData:
    """The rows that ``model`` is fed with: N, or for a bare encoder on N pairs 2 N single texts, first the first ones.

    An encoder without a head embeds texts one by one and never sees two of them together, so that it must not be
    calibrated, trained or checked on pairs. The labels of pairs say nothing about their texts and are left out.

    Raises:
        InputError: as `head_from_model`.
    """
    if rows.pairs is None or head_from_model(model) != "encoder":
        return rows
    return TextData(rows.texts + rows.pairs)
