"""What the tests of checkpoints share: saved folders, ways to spoil them, and the line that refuses them."""

import json

import pytest
from safetensors.torch import load_file, save_file

from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from tests.pruning.compact import pruned_bert, tiny_compact
from tests.tiny import tiny_bert, tiny_tokenizer

BUILDS = {"dense": tiny_bert, "compact": pruned_bert}


def saved(tmp_path, model=None):
    save_checkpoint(tiny_compact() if model is None else model, tiny_tokenizer(), tmp_path / "saved")
    return tmp_path / "saved"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    weights = {name: tensor for name, old in load_file(path).items() if (tensor := change(name, old)) is not None}
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path, metadata={"format": "pt"})


def refused(folder, match, load=load_checkpoint):
    """The one line that says why."""
    with pytest.raises(InputError, match=match) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message
