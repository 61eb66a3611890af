"""``slimbert export`` in every form; what is written answers like the checkpoint."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from exporter.engine.options import EngineError, EngineOptions, EnginePrecision, HardwareCompatibility, Library
from exporter.engine.profile_shapes import ProfileShapes
from exporter.int8.check import Int8Tolerance
from exporter.int8.draft import PRODUCTS_KEY
from exporter.options import OPSETS, Fp32Part
from exporter.parity import TOLERANCES, Parity, ParityError
from pruning.checkpoint import save_checkpoint
from tests.exporter.engine.fake_tensorrt import FakeTensorRt
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
    fp32, int8 = json.loads(out)["files"]
    assert int8["bytes"] < fp32["bytes"]
    assert int8["note"].startswith(f"dynamic int8 in {len(int8['quantised'])} of ")
    assert 0 < int8["relative_error"] <= 0.2
    card = (wide / "deploy" / "README.md").read_text()
    assert f"- `onnx/model_quantized.onnx`: {int8['note']}" in card
    assert "MatMulInteger" in operators(wide / "deploy" / "onnx" / "model_quantized.onnx")
    scores = json.loads(slimbert("eval", "deploy/onnx/model_quantized.onnx", *EVALUATE)[1])
    assert scores["others"]["agreement"] >= 0.97


def test_what_int8_leaves_in_float_is_measured_and_said(wide, slimbert, monkeypatch):
    monkeypatch.setattr(Int8Tolerance.__init__, "__defaults__", (4e-3, 0.97, 0.98))
    arguments = ("export", "wide", "--dtype", "int8", "--dialect", "ort-cpu", "--data", "reviews.csv")
    code, out, err = slimbert(*arguments, "--out", "deploy", "--json")
    assert code == 0, err
    int8 = json.loads(out)["files"][1]
    assert int8["left_out"]
    assert int8["relative_error"] <= 4e-3
    assert f"left in float: {int8['left_out'][0]}" in int8["note"]
    stored = {prop.key: prop.value for prop in onnx.load(wide / "deploy" / int8["path"]).metadata_props}
    assert json.loads(stored[PRODUCTS_KEY]) == int8["quantised"]
    assert slimbert(*arguments, "--out", "again")[1].splitlines()[2] == f"  {int8['note']}"


def test_a_single_text_cannot_choose_and_check(wide, slimbert):
    (wide / "one.csv").write_text("text,label\na good cat,1\n")
    arguments = ("export", "wide", "--dtype", "int8", "--data", "one.csv", "--out", "deploy")
    assert "one text to choose with and another to check on; got 1" in refused(slimbert(*arguments))


def test_what_stays_in_fp32_is_said(wide, slimbert, monkeypatch):
    code, out, err = slimbert("export", "wide", "--dtype", "fp16", "--out", "deploy")
    assert code == 0, err
    assert "attention fused in 0 of 3 layers, because standard operators run everywhere; --dialect ort-cpu" in out
    assert re.search(r"\n  all in fp16, largest difference \d\.\de-0\d\n", out)
    monkeypatch.setitem(TOLERANCES, "fp16", 1e-6)
    monkeypatch.setattr("exporter.options.FP32_CHOICES", ((), tuple(Fp32Part)))
    monkeypatch.setattr("exporter.to_onnx.require_parity", lambda parity: None)
    code, out, err = slimbert("export", "wide", "--dtype", "fp16", "--out", "careful", "--json")
    assert code == 0, err
    half = json.loads(out)["files"][1]
    assert half["fp32_parts"] == ["softmax", "layer_norm"]
    assert half["note"].startswith("softmax and layer norm kept in fp32, largest difference ")
    assert f"- `onnx/model_fp16.onnx`: {half['note']}" in (wide / "careful" / "README.md").read_text()


@pytest.mark.parametrize("dialect", ["standard", "ort-cpu"])
@pytest.mark.parametrize("opset", [OPSETS[0], OPSETS[-1]])
def test_the_lowest_and_the_highest_opset_answer_like_the_checkpoint(wide, slimbert, dialect, opset):
    arguments = ("export", "wide", "--dialect", dialect, "--dtype", "fp16", "--opset", opset, "--out", "deploy")
    code, out, err = slimbert(*arguments, "--json")
    assert code == 0, err
    assert json.loads(out)["opset"] == opset
    for file in ("model.onnx", "model_fp16.onnx"):
        imports = {x.domain: x.version for x in onnx.load(wide / "deploy" / "onnx" / file).opset_import}
        assert imports[""] == opset
        assert json.loads(slimbert("eval", f"deploy/onnx/{file}", *EVALUATE)[1])["others"]["agreement"] == 1.0


def test_int8_needs_text(wide, slimbert):
    assert "pass --data" in refused(slimbert("export", "wide", "--dtype", "int8", "--out", "deploy"))


def test_dynamic_int8_for_cuda_is_refused(wide, slimbert):
    arguments = ("export", "wide", "--dtype", "int8", "--dialect", "ort-cuda", "--data", "reviews.csv")
    assert "dynamic int8 does not run on ort-cuda" in refused(slimbert(*arguments, "--out", "deploy"))


def test_right_padding_is_kept_from_other_masks(wide, slimbert):
    arguments = ("export", "wide", "--right-padding", "--out", "deploy")
    assert "right_padding needs the dialect" in refused(slimbert(*arguments))
    code, out, _ = slimbert(*arguments, "--dialect", "ort-cpu")
    assert (code, "right for padding on the right alone" in out) == (0, True)
    assert "right for padding on the right alone" in (wide / "deploy" / "README.md").read_text()


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


def test_the_options_of_tensorrt_reach_the_builder(wide, slimbert, monkeypatch):
    asked = []

    def build(source, target, options):
        asked.append(options)
        raise EngineError("enough")

    monkeypatch.setattr("tools.exporting.engine_from_onnx", build)
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt())
    arguments = ("--timing-cache", "kernels.cache", "--optimization-level", "0", "--version-compatible", "--tf32")
    shapes = ("--profile", "one=1,1,1:1,16,32", "--profile", "many=1,4,8:1,32,40")
    compatible = ("--hardware-compatibility", "ampere_plus")
    full = ("export", "wide", "--to", "tensorrt", "--out", "engine")
    assert slimbert(*full, *arguments, *shapes, *compatible)[0] == cli.GATE_FAILED
    assert asked == [
        EngineOptions(
            Library.TENSORRT,
            EnginePrecision.FP32,
            profiles=(ProfileShapes("one", (1, 1, 1), (1, 16, 32)), ProfileShapes("many", (1, 4, 8), (1, 32, 40))),
            optimization_level=0,
            timing_cache=Path("kernels.cache"),
            version_compatible=True,
            hardware_compatibility=HardwareCompatibility.AMPERE_PLUS,
            tf32=True,
        )
    ]
    assert slimbert(*full)[0] == cli.GATE_FAILED
    assert asked[1] == EngineOptions(Library.TENSORRT, EnginePrecision.FP32)
    assert not (wide / "engine").exists()


BAD_ENGINE_OPTIONS = {
    "level": (("--optimization-level", "6"), "optimization_level must be 0 to 5; got 6"),
    "level of ONNX": (("--to", "onnx", "--optimization-level", "0"), "--optimization-level is for engines"),
    "cache": (("--timing-cache", "c"), "timing_cache: only the library tensorrt has it"),
    "version": (("--version-compatible",), "version_compatible: only the library tensorrt has it"),
    "hardware": (("--hardware-compatibility", "hopper"), "hardware_compatibility must be one of none, same_compute"),
    "targets": (("--to", "tensorrt", "--target", "SM80"), "tensorrt builds for the GPU of this machine only"),
    "profile": (("--profile", "1x128"), "a profile is NAME=BATCH:SEQUENCE"),
    "profile order": (("--profile", "a=4,2,1:1,8,16"), "batch of profile a must be (smallest, optimal, largest)"),
    "profile name": (("--profile", "=1,1,1:1,8,16"), "an optimization profile needs a name"),
}


@pytest.mark.parametrize("name", BAD_ENGINE_OPTIONS)
def test_a_bad_option_for_an_engine_is_refused(project, slimbert, name):
    extra, message = BAD_ENGINE_OPTIONS[name]
    assert message in refused(slimbert("export", "my-bert", "--to", "tensorrt-rtx", "--out", "engine", *extra))
    assert not (project / "engine").exists()


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_a_profile_beyond_the_positions_is_refused(project, slimbert):
    arguments = ("export", "my-bert", "--to", "tensorrt-rtx", "--out", "engine", "--profile", "a=1,1,1:1,8,41")
    assert "goes beyond the model's 40 positions" in refused(slimbert(*arguments))
    assert not (project / "engine").exists()


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_an_engine_is_built_without_a_gpu(wide, slimbert):
    arguments = ("export", "wide", "--to", "tensorrt-rtx", "--dtype", "fp16", "--target", "SM86", "--opset", "23")
    build = ("--profile", "small=1,1,2:1,16,40", "--optimization-level", "1")
    code, out, err = slimbert(*arguments, *build, "--out", "engine", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["precision"], facts["fusion"]) == ("fp16", "attention fused in 3 of 3 layers")
    assert {path.name for path in (wide / "engine").iterdir()} == {"model_fp16.engine", "model_fp16.engine.json"}
    code, out, err = slimbert("inspect", "engine/model_fp16.engine", "--json")
    assert code == 0, err
    described = json.loads(out)
    assert (described["kind"], described["proven_precision"], described["fused_attention_layers"]) == (
        "engine",
        "fp16",
        3,
    )
    assert described["profiles"] == ["small (batch 1 to 2, sequence 1 to 40)"]
    assert described["optimization_level"] == 1
    shown = slimbert("inspect", "engine/model_fp16.engine")[1]
    assert "compute capabilities: SM86\n" in shown
    assert "tf32: no\n" in shown


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
def test_an_int8_engine_says_which_products_measured_well_enough(wide, slimbert):
    arguments = (
        "export",
        "wide",
        "--to",
        "tensorrt-rtx",
        "--dtype",
        "int8",
        "--data",
        "reviews.csv",
        "--target",
        "SM86",
    )
    code, out, err = slimbert(*arguments, "--profile", "small=1,1,2:1,16,40", "--out", "engine", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts["precision"] == "int8"
    assert re.match(r"qdq int8 in \d+ of \d+ products.*; logits: relative error 0\.", facts["note"])


def test_a_broken_promise_is_exit_code_1(wide, slimbert, monkeypatch):
    def broken(*arguments, **options):
        raise ParityError([Parity("onnx fp32", "one token", 2.0, 1e-4, False)])

    monkeypatch.setattr("tools.exporting.write_deploy_graphs", broken)
    code, _, err = slimbert("export", "wide", "--out", "deploy")
    assert code == cli.GATE_FAILED
    assert "does not answer like the model" in err
    assert not (wide / "deploy").exists()
