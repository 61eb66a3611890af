"""Tokenizers on disk, in the form that every version of transformers and its ports read."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from pruning.atomic import write_json

OWN_CLASS, COMMON_CLASS = "TokenizersBackend", "PreTrainedTokenizerFast"


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the tokenizer's files into ``folder``.

    Transformers 5 renamed its generic fast tokenizer; every version and transformers.js know the old name.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.get("tokenizer_class") == OWN_CLASS:
        write_json(path, settings | {"tokenizer_class": COMMON_CLASS})
