import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from pruning.checkpoint import checkpoint_folder, load_checkpoint, save_checkpoint
from pruning.introspect import arch_from_model
from tests.pruning.compact import HEADS, largest_gap, tiny_compact
from tests.pruning.folders import BUILDS, edit_config, edit_weights, refused, saved
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer

# --- what is saved is what is loaded ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", sorted(BUILDS))
def test_a_model_is_bit_equal_after_saving_and_loading(tmp_path, head, kind):
    model = BUILDS[kind](head)
    loaded = load_checkpoint(saved(tmp_path, model)).model
    assert type(loaded) is type(model)
    assert arch_from_model(loaded) == arch_from_model(model)
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("kind", sorted(BUILDS))
def test_an_encoder_keeps_its_pooler_or_has_none(tmp_path, kind, pooled):
    model = BUILDS[kind]("encoder", add_pooling_layer=pooled)
    loaded = load_checkpoint(saved(tmp_path, model)).model
    assert (loaded.pooler is not None) is pooled
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


@pytest.mark.parametrize("kind", sorted(BUILDS))
def test_an_untied_decoder_is_kept(tmp_path, kind):
    model = BUILDS[kind]("masked-lm", tie_word_embeddings=False)
    loaded = load_checkpoint(saved(tmp_path, model)).model
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


def test_a_checkpoint_is_in_evaluation_mode_and_fp32(tmp_path):
    checkpoint = load_checkpoint(saved(tmp_path, tiny_compact().to(torch.bfloat16).train()))
    assert not checkpoint.model.training
    assert {parameter.dtype for parameter in checkpoint.model.parameters()} == {torch.float32}


def test_a_checkpoint_carries_tokenizer_and_path(tmp_path):
    folder = saved(tmp_path)
    checkpoint = load_checkpoint(str(folder))
    assert checkpoint.path == folder
    assert checkpoint.tokenizer("the cat").input_ids == tiny_tokenizer()("the cat").input_ids


def test_labels_survive(tmp_path):
    names = {0: "bad", 1: "so so", 2: "good"}
    assert load_checkpoint(saved(tmp_path, tiny_compact(id2label=names))).model.config.id2label == names


def test_sharded_weights_load(tmp_path):
    model, folder = tiny_compact(), tmp_path / "saved"
    model.save_pretrained(folder, max_shard_size="4KB")
    tiny_tokenizer().save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert largest_gap(model(**tiny_batch()), load_checkpoint(folder).model(**tiny_batch())) == 0


def test_loading_prints_nothing_but_a_progress_bar(tmp_path, monkeypatch, capfd):
    folder = saved(tmp_path)
    before = logging.get_verbosity()
    logging.set_verbosity_warning()
    monkeypatch.setattr(logging, "_tqdm_active", False)
    capfd.readouterr()
    try:
        load_checkpoint(folder)
    finally:
        logging.set_verbosity(before)
    assert capfd.readouterr() == ("", "")


# --- the folder ------------------------------------------------------------------------------------------------------


def test_a_folder_carries_no_code_unless_asked(tmp_path):
    folder = saved(tmp_path)
    assert list(folder.glob("*.py")) == []
    assert "auto_map" not in json.loads((folder / "config.json").read_text())


def test_no_file_tells_where_the_model_came_from(tmp_path):
    checkpoint = load_checkpoint(saved(tmp_path))
    save_checkpoint(checkpoint.model, checkpoint.tokenizer, tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_saving_replaces_the_whole_folder(tmp_path):
    folder = saved(tmp_path, tiny_compact(seed=1))
    (folder / "stale.txt").write_text("old")
    model = tiny_compact(seed=2)
    saved(tmp_path, model)
    assert not (folder / "stale.txt").exists()
    assert largest_gap(model(**tiny_batch()), load_checkpoint(folder).model(**tiny_batch())) == 0


def test_no_space_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    def no_space(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model = tiny_compact(seed=1)
    folder = saved(tmp_path, model)
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainedTokenizerFast, "save_pretrained", no_space)
        with pytest.raises(OSError, match="No space left"):
            saved(tmp_path, tiny_compact(seed=2))
    assert largest_gap(model(**tiny_batch()), load_checkpoint(folder).model(**tiny_batch())) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


# --- what is no checkpoint -------------------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "is not a checkpoint: it has no config.json. Pass the folder of a saved model")


def test_a_file(tmp_path):
    (tmp_path / "model.bin").write_text("x")
    refused(tmp_path / "model.bin", "is not a checkpoint folder. Pass a folder with config.json, or a hub name")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_is_not_asked_of_the_hub(name):
    refused(name, f"{name} is not a checkpoint folder")


def test_a_hub_name_is_downloaded_without_pickles(tmp_path, monkeypatch):
    folder, asked = saved(tmp_path), []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert load_checkpoint("someone/some-bert").path == folder
    assert asked == [("someone/some-bert", ["*.json", "*.txt", "*.safetensors"])]


def test_a_hub_that_cannot_be_reached(monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise LocalEntryNotFoundError("no connection\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused(
        "someone/some-bert", r"neither a folder nor a model that the hub gives \(no connection\)", checkpoint_folder
    )


def test_a_name_that_no_hub_can_have():
    refused("not a name!", r"neither a folder nor a model that the hub gives \(Repo id must", checkpoint_folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_a_configuration_that_is_no_json(tmp_path, content):
    folder = saved(tmp_path)
    (folder / "config.json").write_bytes(content)
    refused(folder, r"config.json is not valid JSON .*Save the model again")


@pytest.mark.parametrize("content", ["[]", "{}", '{"model_type": "roberta"}'])
def test_another_model_type_is_named_with_the_supported_ones(tmp_path, content):
    folder = saved(tmp_path)
    (folder / "config.json").write_text(content)
    refused(folder, r"model_type .* is not supported; supported: bert, compact_bert")


@pytest.mark.parametrize("name", ["BertForNextSentencePrediction", "RobertaModel"])
def test_another_architecture_is_named_with_the_supported_ones(tmp_path, name):
    folder = saved(tmp_path)
    edit_config(folder, architectures=[name])
    refused(folder, rf"architecture {name} in .* is not supported; supported: BertFor.*, CompactBertModel\.")


@pytest.mark.parametrize("change", [{"is_decoder": True}, {"add_cross_attention": True}])
def test_a_decoder(tmp_path, change):
    folder = saved(tmp_path, tiny_bert())
    edit_config(folder, **change)
    refused(folder, "describes a decoder; only BERT encoders are supported")


def test_relative_positions(tmp_path):
    folder = saved(tmp_path, tiny_bert())
    edit_config(folder, position_embedding_type="relative_key")
    refused(folder, "position_embedding_type 'relative_key' in .* is not supported; supported: absolute")


# --- weights ---------------------------------------------------------------------------------------------------------


def test_no_weights(tmp_path):
    folder = saved(tmp_path)
    (folder / "model.safetensors").unlink()
    refused(folder, "has no model.safetensors. Save the model with save_pretrained")


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.999])
def test_truncated_weights(tmp_path, kept):
    path = saved(tmp_path) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    refused(path.parent, r"model.safetensors is truncated or corrupted \(.*\). Copy or download it again")


@pytest.mark.parametrize("offset", [3, 8, 40])
def test_a_corrupted_header(tmp_path, offset):
    path = saved(tmp_path) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[offset : offset + 4] = b"\xff" * 4
    path.write_bytes(content)
    refused(path.parent, "model.safetensors is truncated or corrupted")


def test_a_missing_shard(tmp_path):
    folder = tmp_path / "saved"
    tiny_compact().save_pretrained(folder, max_shard_size="4KB")
    sorted(folder.glob("*.safetensors"))[0].unlink()
    refused(folder, r"model-00001-of.*safetensors is truncated or corrupted \(No such file")


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"weight_map": 3}', b"\xff"])
def test_a_broken_shard_index(tmp_path, content):
    folder = tmp_path / "saved"
    tiny_compact().save_pretrained(folder, max_shard_size="4KB")
    (folder / "model.safetensors.index.json").write_bytes(content)
    refused(folder, "is not a safetensors index .* Copy or download it again")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_no_numbers(tmp_path, bad, dtype):
    model = tiny_compact().to(dtype)
    model.bert.encoder.layer[2].output.dense.weight.data[3, 1:3] = bad
    name = r"bert.encoder.layer.2.output.dense.weight"
    refused(saved(tmp_path, model), rf"{name} in .* holds 2 NaN or infinite values. The training diverged: use another")


def test_a_weight_that_is_missing(tmp_path):
    folder = saved(tmp_path)
    edit_weights(folder, lambda name, old: None if name == "classifier.bias" else old)
    refused(folder, "lacks 1 weights that its config.json asks for, first classifier.bias")


def test_weights_of_another_size(tmp_path):
    folder = saved(tmp_path)
    edit_weights(folder, lambda name, old: old[:5] if name == "bert.encoder.layer.2.output.dense.weight" else old)
    refused(folder, "the weights do not fit its config.json")


def test_layers_that_the_configuration_does_not_know(tmp_path):
    folder = saved(tmp_path, tiny_bert())
    edit_config(folder, num_hidden_layers=2)
    refused(folder, r"has 16 weights that its config.json does not know, first bert.encoder.layer.2.attention")


def test_heads_that_the_configuration_does_not_know(tmp_path):
    folder = saved(tmp_path)
    edit_config(folder, layer_num_heads=[0, 0, 4])
    refused(folder, "weights that its config.json does not know, first bert.encoder.layer.0.attention")


def test_weights_of_another_head_do_no_harm(tmp_path):
    folder = saved(tmp_path)
    edit_weights(folder, lambda name, old: old)
    weights = load_file(folder / "model.safetensors") | {"cls.seq_relationship.bias": torch.zeros(2)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_checkpoint(folder).model.num_labels == 2


@pytest.mark.parametrize(
    "change",
    [
        {"layer_num_heads": [1, 2]},
        {"layer_num_heads": [2, 0, -4]},
        {"layer_num_heads": "abc"},
        {"layer_num_heads": 3},
        {"hidden_act": "no such thing"},
        {"hidden_size": "wide"},
        {"head_dim": 5},
        {"vocab_size": 30},
        {"id2label": {"a": "b"}},
    ],
)
def test_a_configuration_that_makes_no_sense(tmp_path, change):
    folder = saved(tmp_path)
    edit_config(folder, **change)
    refused(folder, "the weights do not fit its config.json")


def pickled(tmp_path):
    model, folder = tiny_bert(), tmp_path / "pickled"
    save_checkpoint(model, tiny_tokenizer(), folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return model, folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training.pt"])
def test_a_pickle_is_refused(tmp_path, name):
    folder = saved(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, "holds a pickle checkpoint, which can run code when opened and is refused")


def test_the_conversion_command_converts(tmp_path):
    model, folder = pickled(tmp_path)
    command = re.search(r"convert it: python (.*)$", refused(folder, "pickle")).group(1)
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True, capture_output=True, cwd=tmp_path)
    loaded = load_checkpoint(Path(f"{folder}-safe")).model
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


# --- tokenizer -------------------------------------------------------------------------------------------------------


def test_no_tokenizer(tmp_path):
    folder = saved(tmp_path)
    for path in folder.glob("*token*"):
        path.unlink()
    refused(folder, r"has no tokenizer \(tokenizer.json or vocab.txt\). Save it beside the model")


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"model": {"type": "WordPiece"}}'])
def test_a_broken_tokenizer(tmp_path, content):
    folder = saved(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    refused(folder, "has no usable tokenizer .* Save the tokenizer beside the model")


@pytest.mark.parametrize("vocab_size", [20, 28, 129, 30522])
def test_a_tokenizer_of_another_model(tmp_path, vocab_size):
    folder = saved(tmp_path, tiny_compact(vocab_size=vocab_size))
    refused(folder, f"has 29 tokens but the model has {vocab_size} word embeddings. Put the model's own tokenizer")


@pytest.mark.parametrize("vocab_size", [29, 32, 128])
def test_a_padded_vocabulary_is_fine(tmp_path, vocab_size):
    folder = saved(tmp_path, tiny_compact(vocab_size=vocab_size))
    assert load_checkpoint(folder).model.config.vocab_size == vocab_size


def test_weights_are_as_readable_as_the_configuration(tmp_path):
    save_checkpoint(tiny_bert(), tiny_tokenizer(), tmp_path / "model")
    modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(("text", "kind"), [("I/O error: No space (os error 28)", OSError), ("odd", SafetensorError)])
def test_a_full_disk_is_an_os_error_with_its_number(tmp_path, monkeypatch, text, kind):
    model = tiny_bert()

    def fail(*args, **kwargs):
        raise SafetensorError(text)

    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(kind) as caught:
        save_checkpoint(model, tiny_tokenizer(), tmp_path / "model")
    assert getattr(caught.value, "errno", None) == (errno.ENOSPC if kind is OSError else None)
    assert list(tmp_path.iterdir()) == []
