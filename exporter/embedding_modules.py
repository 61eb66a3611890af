"""What sentence-transformers reads beside the ONNX file of an embedding model: how states become one vector."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pruning.atomic import write_json
from pruning.errors import InputError

MODULES_FILE = "modules.json"
SETTINGS_FILES = ("sentence_bert_config.json", "config_sentence_transformers.json")
MODULES = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
"""Class and folder of each step where the source has no steps of its own: mean pooling, length 1."""
MEAN = {
    "pooling_mode_cls_token": False,
    "pooling_mode_mean_tokens": True,
    "pooling_mode_max_tokens": False,
    "pooling_mode_mean_sqrt_len_tokens": False,
}
"""Mean pooling in the words that every version of sentence-transformers reads."""


def write_embedding_modules(folder: Path, hidden: int, source: Path | None = None) -> None:
    """Write ``modules.json`` and what it names into a deploy folder of a bare encoder.

    The steps after the encoder are those of ``source`` if it is a sentence-transformers folder. Otherwise they are
    the mean over the tokens and normalisation: the ``sentence_embedding`` of this exporter.

    Args:
        folder: the deploy folder.
        hidden: size of the states.
        source: the folder of the checkpoint that the model was made from.

    Raises:
        InputError: if ``source`` describes its steps in a way that cannot be read.
    """
    if source is not None and (source / MODULES_FILE).is_file():
        _copy_modules(source, folder)
        return
    steps = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}
        for index, (name, path) in enumerate(MODULES)
    ]
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": hidden, **MEAN})
    write_json(folder / MODULES_FILE, steps)


def _copy_modules(source: Path, folder: Path) -> None:
    for path in _step_folders(source):
        if (source / path).is_dir():  # a step without settings may have no folder
            shutil.copytree(source / path, folder / path)
    for name in (MODULES_FILE, *SETTINGS_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _step_folders(source: Path) -> list[str]:
    """Folders of the steps after the encoder, which itself lies at the root."""
    try:
        steps: list[dict[str, Any]] = json.loads((source / MODULES_FILE).read_text(encoding="utf-8"))
        paths = [str(step["path"]) for step in steps]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{source / MODULES_FILE} is damaged ({error!r}). Save the model again.") from error
    outside = [path for path in paths if Path(path).name != path or path == ".."]
    if outside:
        raise InputError(f"{source / MODULES_FILE} names {outside[0]!r}; every step must lie in a folder beside it.")
    return [path for path in paths if path]
