"""``slimbert export`` in every form; what is written answers like the checkpoint."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec

import onnx
import pytest

from exporter.parity import Parity, ParityError
from pruning.checkpoint import save_checkpoint
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.test_bad_input import refused
from tools import cli

EVALUATE = ("--task", "text-classification", "--data", "reviews.csv", "--reference", "wide", "--json")


@pytest.fixture
def wide(project):
    """A model wide enough for int8, with gentle weights."""
    model = tiny_bert(std=0.1, hidden_size=64, intermediate_size=96, num_attention_heads=2)
    save_checkpoint(model, tiny_tokenizer(), project / "wide")
    return project


def operators(path):
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("dialect", ["standard", "ort-cpu", "ort-cuda"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_dialects_and_precisions_answer_like_the_checkpoint(wide, slimbert, dialect, dtype):
    code, out, err = slimbert("export", "wide", "--dialect", dialect, "--dtype", dtype, "--out", "deploy", "--json")
    assert code == 0, err
    facts = json.loads(out)
    expected = {"onnx/model.onnx", "onnx/model_fp16.onnx"} if dtype == "fp16" else {"onnx/model.onnx"}
    assert {file["path"] for file in facts["files"]} == expected
    assert facts["fusion"].startswith("attention fused in " + ("0" if dialect == "standard" else "3") + " of 3")
    for file in expected:
        scores = json.loads(slimbert("eval", f"deploy/{file}", *EVALUATE)[1])
        assert scores["others"]["agreement"] == 1.0


def test_int8_is_written_beside_fp32_and_checked(wide, slimbert):
    arguments = ("export", "wide", "--dtype", "int8", "--quantize-embeddings", "--out", "deploy", "--json")
    code, out, err = slimbert(*arguments, "--data", "reviews.csv")
    assert code == 0, err
    sizes = {file["dtype"]: file["bytes"] for file in json.loads(out)["files"]}
    assert sizes["int8"] < sizes["fp32"]
    assert "MatMulInteger" in operators(wide / "deploy" / "onnx" / "model_quantized.onnx")
    scores = json.loads(slimbert("eval", "deploy/onnx/model_quantized.onnx", *EVALUATE)[1])
    assert scores["others"]["agreement"] >= 0.97


def test_int8_needs_text(wide, slimbert):
    assert "pass --data" in refused(slimbert("export", "wide", "--dtype", "int8", "--out", "deploy"))


def test_dynamic_int8_for_cuda_is_refused(wide, slimbert):
    arguments = ("export", "wide", "--dtype", "int8", "--dialect", "ort-cuda", "--data", "reviews.csv")
    assert "dynamic int8 does not run on ort-cuda" in refused(slimbert(*arguments, "--out", "deploy"))


def test_right_padding_is_kept_from_other_masks(wide, slimbert):
    arguments = ("export", "wide", "--right-padding", "--out", "deploy")
    assert "right_padding needs the dialect" in refused(slimbert(*arguments))
    assert slimbert(*arguments, "--dialect", "ort-cpu")[0] == 0


def test_first_token_and_mean_pooling(wide, slimbert):
    for option, sliced in (("--first-token", True), ("--no-first-token", False)):
        assert slimbert("export", "wide", option, "--out", option[2:])[0] == 0
        assert json.loads(slimbert("eval", option[2:], *EVALUATE)[1])["others"]["agreement"] == 1.0
        nodes = onnx.load(wide / option[2:] / "onnx" / "model.onnx").graph.node
        assert any("first_token/Slice" in node.name for node in nodes) == sliced
    assert "pooling makes sentence embeddings" in refused(slimbert("export", "wide", "--mean-pooling", "--out", "x"))
    save_checkpoint(tiny_bert("encoder"), tiny_tokenizer(), wide / "encoder")
    assert slimbert("export", "encoder", "--mean-pooling", "--out", "pooled")[0] == 0
    outputs = [output.name for output in onnx.load(wide / "pooled" / "onnx" / "model.onnx").graph.output]
    assert "sentence_embedding" in outputs


def test_engines_take_the_standard_dialect(wide, slimbert):
    arguments = ("export", "wide", "--to", "tensorrt-rtx", "--dialect", "ort-cpu", "--out", "engine")
    assert "TensorRT parses the standard dialect only" in refused(slimbert(*arguments))
    assert "--target is for" in refused(slimbert("export", "wide", "--target", "SM80", "--out", "engine"))


def test_a_missing_library_names_its_extra(wide, slimbert, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert "slimbert[tensorrt-rtx]" in refused(slimbert("export", "wide", "--to", "tensorrt-rtx", "--out", "engine"))
    assert not (wide / "engine").exists()


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_an_engine_is_built_without_a_gpu(wide, slimbert):
    arguments = ("export", "wide", "--to", "tensorrt-rtx", "--dtype", "fp16", "--target", "SM86")
    code, out, err = slimbert(*arguments, "--out", "engine", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["precision"], facts["fusion"]) == ("fp16", "attention fused in 3 of 3 layers")
    assert {path.name for path in (wide / "engine").iterdir()} == {"model_fp16.engine", "model_fp16.engine.json"}


def test_a_broken_promise_is_exit_code_1(wide, slimbert, monkeypatch):
    def broken(*arguments, **options):
        raise ParityError([Parity("onnx fp32", "one token", 2.0, 1e-4, False)])

    monkeypatch.setattr("tools.exporting.write_deploy_graphs", broken)
    code, _, err = slimbert("export", "wide", "--out", "deploy")
    assert code == cli.GATE_FAILED
    assert "does not answer like the model" in err
    assert not (wide / "deploy").exists()
