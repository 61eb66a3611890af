"""Weights, architecture and tokenizer, read and written together, never apart.

Only safetensors: a pickle can run code when it is opened. Every way in which a folder can be wrong is an
`InputError` that says what to do.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pruning import config, heads, model
from pruning.atomic import atomic_folder, write_json
from pruning.auto import AUTO_CLASSES
from pruning.config import CompactBertConfig
from pruning.errors import InputError
from pruning.heads import HEAD_CLASSES
from pruning.introspect import DENSE_CLASSES, head_from_model
from pruning.tokenizer_files import save_tokenizer

CODE_MODULES = (config, model, heads)
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
CLASSIFIERS = ("sequence-classification", "token-classification")
"""Heads whose last layer has the same name and may have the same shape, and yet means something else."""
OS_ERROR = re.compile(r"os error (\d+)")
VOCABULARY_MULTIPLE = 128
"""Vocabularies are padded up to a multiple of this, and no further, for the sake of tensor cores."""


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode and float32, its tokenizer, and the folder they came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    path: Path


def load_checkpoint(name: str | Path) -> Checkpoint:
    """Load a dense or compact BERT with the head its configuration names.

    Args:
        name: a folder, or the name of a model on the Hugging Face hub.

    Raises:
        InputError: if it is no checkpoint, a pickle, corrupted, of an unsupported architecture, holds NaN or
            infinite weights, lacks weights, or comes with a tokenizer of another vocabulary.
    """
    folder = checkpoint_folder(name)
    settings = read_config(folder)
    names = check_weights(folder)
    head = _declared_head(folder, settings)
    loaded = _from_pretrained(_class_of(settings, head), folder, **_pooler_option(settings, head, names))
    return Checkpoint(loaded, load_tokenizer(folder, loaded.config.vocab_size), folder)


def load_for_finetuning(name: str | Path, head: str, labels: Sequence[str] = ()) -> Checkpoint:
    """Load the encoder for training under ``head``, with a new head where the checkpoint has no fitting one.

    The head is kept if the checkpoint has the same kind of head with the same ``labels`` in the same order;
    otherwise it is drawn from torch's global random generator. One empty label means regression.

    Raises:
        InputError: as `load_checkpoint`.
    """
    folder = checkpoint_folder(name)
    settings = read_config(folder)
    names = check_weights(folder)
    if head == _declared_head(folder, settings) and (not labels or list(labels) == _labels_of(settings)):
        return load_checkpoint(folder)
    options: dict[str, Any] = {}
    if labels:
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
    options |= _pooler_option(settings, head, names)
    loaded = _from_pretrained(_class_of(settings, head), folder, new_head=True, **options)
    if head in CLASSIFIERS:
        _draw_classifier(loaded)
    return Checkpoint(loaded, load_tokenizer(folder, loaded.config.vocab_size), folder)


def save_checkpoint(
    compact: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, with_code: bool = False
) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer; the folder appears only when complete.

    Args:
        compact: a dense or compact model.
        tokenizer: its tokenizer.
        folder: replaced if it exists.
        with_code: also write the model's own code, so that the folder loads with ``trust_remote_code=True`` where
            slimbert is not installed. Dense models need none.

    Raises:
        OSError: if the disk is full or cannot be written; an older folder stays as it was.
    """
    with atomic_folder(Path(folder)) as partial:
        _save_weights(compact, partial)
        for weights in partial.glob("*.safetensors"):  # safetensors writes them for the owner alone
            weights.chmod((partial / "config.json").stat().st_mode)
        save_tokenizer(tokenizer, partial)
        code = _write_code(compact, partial) if with_code and isinstance(compact.config, CompactBertConfig) else {}
        _point_to_code(partial, code)


def checkpoint_folder(name: str | Path) -> Path:
    """The local folder of a checkpoint; a hub name is downloaded (safetensors, JSON and vocabulary files only).

    Raises:
        InputError: if there is no such folder and the hub does not have, or does not give, the name.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.exists() or str(name).count("/") > 1 or str(name).startswith((".", "/", "~")):
        raise InputError(f"{name} is not a checkpoint folder. Pass a folder with config.json, or a hub name.")
    from huggingface_hub import snapshot_download  # noqa: PLC0415  # only a hub name needs it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.txt", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(
            f"{name} is neither a folder nor a model that the hub gives ({reason}). Check the spelling and network."
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as plain data.

    Raises:
        InputError: if it is missing, not JSON, or of an unsupported architecture.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a checkpoint: it has no config.json. Pass the folder of a saved model.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error}). Save the model again.") from error
    found = settings.get("model_type") if isinstance(settings, dict) else None
    if found not in ("bert", CompactBertConfig.model_type):
        raise InputError(f"model_type {found!r} in {path} is not supported; supported: bert, compact_bert.")
    if settings.get("is_decoder") or settings.get("add_cross_attention"):
        raise InputError(f"{path} describes a decoder; only BERT encoders are supported.")
    if settings.get("position_embedding_type", "absolute") != "absolute":
        kind = settings["position_embedding_type"]
        raise InputError(f"position_embedding_type {kind!r} in {path} is not supported; supported: absolute.")
    return settings  # type: ignore[no-any-return]


def check_weights(folder: Path) -> set[str]:
    """Names of the stored tensors, after checking that every file is whole and every number finite.

    Raises:
        InputError: if there is no safetensors file, one is truncated or corrupted, or a weight is NaN or infinite.
    """
    names: set[str] = set()
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    _check_finite(path, name, file.get_tensor(name))
                    names.add(name)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is truncated or corrupted ({error}). Copy or download it again.") from error
    return names


def load_tokenizer(folder: Path, vocab_size: int) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint, checked against the model's vocabulary.

    Raises:
        InputError: if there is none, or its size does not belong to ``vocab_size`` embeddings.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"{folder} has no tokenizer ({' or '.join(TOKENIZER_FILES)}). Save it beside the model.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # tokenizers raises nothing more specific than this for a broken file
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{folder} has no usable tokenizer ({reason}). Save the tokenizer beside the model."
        ) from error
    padded = -(-len(tokenizer) // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    if not len(tokenizer) <= vocab_size <= padded:
        raise InputError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens but the model has {vocab_size} word embeddings. "
            "Put the model's own tokenizer there."
        )
    return tokenizer


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        return [folder / name for name in sorted(_shards(folder / WEIGHTS_INDEX))]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise InputError(
            f"{folder} holds a pickle checkpoint, which can run code when opened and is refused. If you trust it, "
            f"convert it: {_conversion_command(folder)}"
        )
    raise InputError(f"{folder} has no {WEIGHTS}. Save the model with save_pretrained.")


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{index} is not a safetensors index ({error}). Copy or download it again.") from error


def _conversion_command(folder: Path) -> str:
    return (
        'python -c "from transformers import AutoConfig, AutoTokenizer; import transformers as t; '
        f"p = '{folder}'; c = AutoConfig.from_pretrained(p); "
        "m = getattr(t, (c.architectures or ['BertModel'])[0]).from_pretrained(p, use_safetensors=False); "
        "m.save_pretrained(p + '-safe'); AutoTokenizer.from_pretrained(p).save_pretrained(p + '-safe')\""
    )


def _check_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        bad = int((~torch.isfinite(tensor)).sum())
        raise InputError(f"{name} in {path} holds {bad} NaN or infinite values. The training diverged: use another.")


def _declared_head(folder: Path, settings: Mapping[str, Any]) -> str:
    declared = (settings.get("architectures") or ["BertModel"])[0]
    by_class = {x.__name__: head for table in (DENSE_CLASSES, HEAD_CLASSES) for head, x in table.items()}
    if declared not in by_class:
        supported = ", ".join(sorted(by_class))
        raise InputError(f"architecture {declared} in {folder} is not supported; supported: {supported}.")
    return by_class[declared]


def _class_of(settings: Mapping[str, Any], head: str) -> type[PreTrainedModel]:
    return (DENSE_CLASSES if settings["model_type"] == "bert" else HEAD_CLASSES)[head]


def _labels_of(settings: Mapping[str, Any]) -> list[str]:
    id2label = settings.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves its default out
    return [id2label[key] for key in sorted(id2label, key=lambda key: (len(key), key))]


def _pooler_option(settings: Mapping[str, Any], head: str, names: set[str]) -> dict[str, Any]:
    if head != "encoder" or settings["model_type"] != "bert":
        return {}
    return {"add_pooling_layer": any("pooler." in name for name in names)}


def _from_pretrained(
    model_class: type[PreTrainedModel], folder: Path, *, new_head: bool = False, **options: Any
) -> PreTrainedModel:
    try:
        loaded, info = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=new_head,
            **options,
        )
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{folder}: the weights do not fit its config.json ({reason}).") from error
    mismatched = (x if isinstance(x, str) else x[0] for x in info["mismatched_keys"])  # transformers 5 adds the shapes
    absent = {*info["missing_keys"], *mismatched}
    missing = sorted(name for name in absent if not new_head or _in_encoder(name))
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} weights that its config.json asks for, first {missing[0]}.")
    unknown = sorted(name for name in info["unexpected_keys"] if "layer" in name.split("."))
    if unknown:
        raise InputError(f"{folder} has {len(unknown)} weights that its config.json does not know, first {unknown[0]}.")
    return loaded.eval()


def _in_encoder(name: str) -> bool:
    return not {"embeddings", "encoder"}.isdisjoint(name.split("."))


@torch.no_grad()
def _draw_classifier(loaded: PreTrainedModel) -> None:
    loaded.classifier.weight.normal_(std=loaded.config.initializer_range)
    loaded.classifier.bias.zero_()


def _save_weights(compact: PreTrainedModel, folder: Path) -> None:
    try:
        compact.save_pretrained(folder)
    except SafetensorError as error:  # hides the disk's own error in its text
        code = OS_ERROR.search(str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(folder)) from error


def _write_code(compact: PreTrainedModel, folder: Path) -> dict[str, str]:
    for module in CODE_MODULES:
        assert module.__file__ is not None
        shutil.copyfile(module.__file__, folder / Path(module.__file__).name)
    auto_class = AUTO_CLASSES[head_from_model(compact)].__name__
    home = "model" if type(compact).__module__ == model.__name__ else "heads"
    return {"AutoConfig": "config.CompactBertConfig", auto_class: f"{home}.{type(compact).__name__}"}


def _point_to_code(folder: Path, auto_map: Mapping[str, str]) -> None:
    """Without code, an ``auto_map`` that the configuration was loaded with would lead nowhere."""
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings.pop("auto_map", None)
    write_json(folder / "config.json", settings | ({"auto_map": auto_map} if auto_map else {}))
