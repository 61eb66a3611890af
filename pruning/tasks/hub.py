"""Data sets of the Hugging Face hub, through ``datasets``."""

from __future__ import annotations

from collections.abc import Sequence

from pruning.errors import InputError
from pruning.tasks.columns import Columns


def columns_from_hub(name: str, config: str | None, splits: Sequence[str]) -> tuple[str, Columns | None]:
    """The first of ``splits`` that the data set has, with its columns.

    Args:
        name: such as ``stanfordnlp/sst2``.
        config: configuration of a data set that has several.
        splits: names to try, in order.

    Returns:
        The name of the split found and its columns; or, if it has none of them, the names it has and ``None``.

    Raises:
        InputError: if the hub cannot be reached or does not give the data set.
    """
    import datasets  # noqa: PLC0415  # heavy, and only a hub name needs it

    try:
        loaded = datasets.load_dataset(name, config)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{name} is neither a local file nor a data set that the hub gives ({reason}). "
            "Check the spelling and the network, or pass a CSV, TSV, JSON Lines or Parquet file."
        ) from error
    for split in splits:
        if split in loaded:
            table = loaded[split]
            return split, {column: table[column][:] for column in table.column_names}
    return ", ".join(loaded), None
