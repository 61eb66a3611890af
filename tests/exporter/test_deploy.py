from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

import exporter.dialect
from exporter.deploy import FP16_FILE, ONNX_FILE, bert_config_from_model, write_deploy, write_deploy_graphs
from exporter.options import GraphOptions
from exporter.parity import ParityError
from pruning.batching import encode, predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import DENSE_CLASSES, tiny_bert, tiny_tokenizer

TEXTS = ["the cat sat on the mat", "a very good dog"]
CLIENT = """
import json, sys
import onnxruntime
from transformers import AutoConfig, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
inputs = dict(tokenizer(texts, padding=True, return_tensors="np"))
session = onnxruntime.InferenceSession(folder + "/onnx/model.onnx", providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {x.name: inputs[x.name] for x in session.get_inputs()})
own = {"pruning", "exporter", "bench", "tools"} & sys.modules.keys()
print(json.dumps([config.model_type, config.architectures, config.id2label, logits.tolist(), sorted(own)]))
"""


def labelled(head="sequence-classification"):
    labels = {"id2label": {0: "safe", 1: "odd", 2: "bad"}, "label2id": {"safe": 0, "odd": 1, "bad": 2}}
    return tiny_compact(head, [1, 0, 3], [0, 5, 7], problem_type="single_label_classification", **labels)


def test_folder_answers_alike_in_a_process_that_knows_nothing_of_slimbert(tmp_path):
    model, tokenizer = labelled(), tiny_tokenizer()
    export = write_deploy(model, tokenizer, tmp_path / "deploy")
    assert export.path == tmp_path / "deploy" / "onnx" / "model.onnx"
    batch = encode(tokenizer, TEXTS).padded([0, 1])
    expected = predict_from_model(model)(batch)["logits"]
    command = [sys.executable, "-c", CLIENT, str(tmp_path / "deploy"), json.dumps(TEXTS)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    model_type, architectures, id2label, logits, own = json.loads(answer.splitlines()[-1])
    assert (model_type, architectures, own) == ("bert", ["BertForSequenceClassification"], [])
    assert id2label == {"0": "safe", "1": "odd", "2": "bad"}
    torch.testing.assert_close(torch.tensor(logits), expected, rtol=0, atol=1e-4)


def test_folder_holds_what_clients_look_for(tmp_path):
    write_deploy(labelled(), tiny_tokenizer(), tmp_path / "deploy")
    files = {str(x.relative_to(tmp_path / "deploy")) for x in (tmp_path / "deploy").rglob("*") if x.is_file()}
    assert files == {"config.json", "tokenizer.json", "tokenizer_config.json", "onnx/model.onnx"}
    tokenizer = json.loads((tmp_path / "deploy" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("head", DENSE_CLASSES)
def test_configuration_names_the_class_of_the_head(head):
    assert bert_config_from_model(tiny_bert(head)).architectures == [DENSE_CLASSES[head].__name__]


def test_configuration_is_a_plain_bert_with_the_models_labels():
    model = labelled()
    model.config.auto_map = {"AutoConfig": "config.CompactBertConfig"}
    settings = bert_config_from_model(model).to_dict()
    assert settings["model_type"] == "bert"
    assert settings["label2id"] == {"safe": 0, "odd": 1, "bad": 2}
    assert settings["problem_type"] == "single_label_classification"
    assert (settings["num_attention_heads"], settings["intermediate_size"], settings["hidden_size"]) == (4, 24, 16)
    assert settings.keys().isdisjoint({"auto_map", "layer_num_heads", "layer_intermediate_sizes", "head_dim"})


def test_failed_parity_keeps_the_older_folder(tmp_path, monkeypatch):
    folder = tmp_path / "deploy"
    folder.mkdir()
    (folder / "kept.txt").write_text("older")
    monkeypatch.setitem(exporter.dialect.ACTIVATIONS, "gelu", ("Relu", {}))
    with pytest.raises(ParityError):
        write_deploy(tiny_bert(), tiny_tokenizer(), folder)
    assert [x.name for x in folder.iterdir()] == ["kept.txt"]
    assert list(tmp_path.iterdir()) == [folder]


def test_unsupported_opset_leaves_no_folder(tmp_path):
    with pytest.raises(InputError, match="the opset must be one of"):
        write_deploy(tiny_bert(), tiny_tokenizer(), tmp_path / "deploy", opset=9)
    assert not list(tmp_path.iterdir())


def test_folder_may_hold_several_graphs(tmp_path):
    graphs = {ONNX_FILE: GraphOptions(dialect="ort-cpu"), FP16_FILE: GraphOptions(dtype="fp16")}
    exports = write_deploy_graphs(labelled(), tiny_tokenizer(), tmp_path / "deploy", graphs)
    assert [x.path.relative_to(tmp_path / "deploy").as_posix() for x in exports.values()] == [
        "onnx/model.onnx",
        "onnx/model_fp16.onnx",
    ]
    assert all(export.path.is_file() for export in exports.values())
    assert exports[ONNX_FILE].fused_attention == 2
    assert exports[FP16_FILE].form.dtype == "fp16"
