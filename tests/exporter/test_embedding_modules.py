from __future__ import annotations

import json

import pytest

from exporter.deploy import write_deploy
from exporter.embedding_modules import write_embedding_modules
from pruning.errors import InputError
from tests.tiny import tiny_bert, tiny_tokenizer


def modules(folder):
    steps = json.loads((folder / "modules.json").read_text())
    return [(step["type"].rpartition(".")[2], step["path"]) for step in steps]


def source_folder(path, *paths):
    path.mkdir()
    steps = [{"idx": i, "name": str(i), "path": step, "type": f"x.Step{i}"} for i, step in enumerate(paths)]
    (path / "modules.json").write_text(json.dumps(steps))
    return path


def test_without_a_source_embeddings_are_the_normalised_mean(tmp_path):
    write_deploy(tiny_bert("encoder"), tiny_tokenizer(), tmp_path / "deploy")
    assert modules(tmp_path / "deploy") == [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    pooling = json.loads((tmp_path / "deploy" / "1_Pooling" / "config.json").read_text())
    assert pooling.pop("word_embedding_dimension") == 16
    assert [name for name, used in pooling.items() if used] == ["pooling_mode_mean_tokens"]


def test_other_heads_get_no_modules(tmp_path):
    write_deploy(tiny_bert("question-answering"), tiny_tokenizer(), tmp_path / "deploy")
    assert not (tmp_path / "deploy" / "modules.json").exists()


def test_the_steps_of_the_source_are_kept(tmp_path):
    source = source_folder(tmp_path / "source", "", "1_Pooling", "2_Normalize")
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (source / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    write_deploy(tiny_bert("encoder"), tiny_tokenizer(), tmp_path / "deploy", source=source)
    assert modules(tmp_path / "deploy") == modules(source)
    for name in ("1_Pooling/config.json", "sentence_bert_config.json"):
        assert (tmp_path / "deploy" / name).read_text() == (source / name).read_text()


@pytest.mark.parametrize("path", ["../outside", "..", "/etc", "a/b"])
def test_a_step_outside_the_folder_is_refused(tmp_path, path):
    source = source_folder(tmp_path / "source", "", path)
    with pytest.raises(InputError, match="every step must lie in a folder beside it"):
        write_embedding_modules(tmp_path / "deploy", 16, source)


@pytest.mark.parametrize("text", ["{", "[{}]", "[3]"])
def test_damaged_modules_are_refused(tmp_path, text):
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(InputError, match=r"modules.json is damaged"):
        write_embedding_modules(tmp_path / "deploy", 16, tmp_path)
