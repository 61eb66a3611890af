"""What ``slimbert run`` deploys, what it refuses to, and what ``slimbert verify`` makes of it."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec

import onnx
import pytest

from exporter.fastest import Speedup
from exporter.parity import TOLERANCES
from pruning.checkpoint import save_checkpoint
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import FULL_QUICK
from tests.tools.test_bad_input import refused
from tools.manifest import file_facts

COMMON = ("--task", "text-classification", "--data", "reviews.csv", *FULL_QUICK, "--out", "out")
RUN_WIDE = ("run", "wide", "--density", "0.8", *COMMON)
needs_rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


@pytest.fixture
def wide(project):
    """A model with gentle weights, which int8 and fp16 can hold, and with a decision that no rounding flips."""
    model = tiny_bert(std=0.1, hidden_size=64, intermediate_size=96, num_attention_heads=2)
    model.classifier.bias.data[1] += 3
    save_checkpoint(model, tiny_tokenizer(), project / "wide")
    return project


def report_of(project):
    return json.loads((project / "out" / "report.json").read_text())


def test_every_precision_is_deployed_scored_and_verified(wide, slimbert):
    code, shown, err = slimbert(*RUN_WIDE)
    assert code == 0, err
    report = report_of(wide)
    artifacts = {x["dtype"]: x for x in report["artifacts"]}
    assert [x["path"].split("/")[-1] for x in report["artifacts"]] == [
        "model.onnx",
        "model_fp16.onnx",
        "model_quantized.onnx",
    ]
    assert artifacts["fp32"]["fusion_speedup"]["value"] > 0
    assert set(artifacts["int8"]["kinds"]) >= {"qkv", "ffn-up", "ffn-down"}
    assert artifacts["fp16"]["form"] == "standard"
    assert all(x["metric"]["name"] == "accuracy" for x in report["artifacts"])
    assert artifacts["int8"]["metric_change"] is not None
    assert artifacts["int8"]["quantised"]
    assert 0 < artifacts["int8"]["relative_error"] < 0.2
    assert artifacts["fp16"]["fp32_parts"] == []
    assert artifacts["int8"]["speedup"]["value"] > 0
    assert artifacts["fp16"]["speedup"] is None
    assert report["not_shipped"] == []
    assert {row["artifact"] for row in report["parity"]} == {x["path"] for x in report["artifacts"]}
    assert all(row["passed"] and row["agreement"] >= row["least_agreement"] for row in report["parity"])
    for page in ("report.md", "report.html", "deploy/README.md"):
        text = (wide / "out" / page).read_text()
        assert "onnx/model_quantized.onnx" in text
        for note in (artifacts["fp16"]["note"], artifacts["int8"]["note"]):
            assert note in text
            assert note in shown
    code, out, _ = slimbert("verify", "out", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (len(facts["parity"]), facts["not_run"], facts["passed"]) == (3, {}, True)


def test_the_unfused_graph_is_shipped_where_it_is_faster_and_said(wide, slimbert, monkeypatch):
    slower = Speedup(0.9, 0.85, 0.95)
    monkeypatch.setattr("tools.stages.short_compare", lambda settings, inputs: lambda fused, unfused: slower)
    code, shown, err = slimbert(*RUN_WIDE, "--dtype", "fp32")
    assert code == 0, err
    (artifact,) = report_of(wide)["artifacts"]
    assert (artifact["form"], artifact["fusion"]) == ("standard", "attention fused in 0 of 3 layers")
    note = "Fusion speedup 0.900 [0.850, 0.950]: unfused kept, because fusion is slower here."
    assert artifact["note"] == note
    assert note in shown
    for page in ("report.md", "report.html", "deploy/README.md"):
        assert note in (wide / "out" / page).read_text()


def test_what_breaks_its_tolerance_is_not_shipped_and_said(wide, slimbert, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "int8", 1e-9)
    code, out, _ = slimbert(*RUN_WIDE)
    assert code == 0
    assert "Not shipped: deploy/onnx/model_quantized.onnx: difference" in out
    assert not (wide / "out" / "deploy" / "onnx" / "model_quantized.onnx").exists()
    (refusal,) = report_of(wide)["not_shipped"]
    assert not refusal["asked"]
    assert "Not shipped" in (wide / "out" / "report.md").read_text()
    assert slimbert("verify", "out")[0] == 0


def test_what_was_asked_for_and_not_shipped_is_exit_code_1(wide, slimbert, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "int8", 1e-9)
    code, out, err = slimbert(*RUN_WIDE, "--dtype", "int8", "--dialect", "standard")
    assert code == 1, err
    assert "Not shipped: deploy/onnx/model_quantized.onnx" in out
    report = report_of(wide)
    assert report["not_shipped"][0]["asked"]
    assert [x["dtype"] for x in report["artifacts"]] == ["fp32"]


def test_a_graph_that_answers_differently_fails_verification(wide, slimbert):
    assert slimbert(*RUN_WIDE, "--dtype", "fp32", "--dialect", "standard")[0] == 0
    graph = onnx.load(wide / "out" / "deploy" / "onnx" / "model.onnx")
    classifier = next(x for x in graph.graph.initializer if x.name == "classifier.bias")
    classifier.raw_data = (onnx.numpy_helper.to_array(classifier) + 1).tobytes()
    onnx.save(graph, wide / "out" / "deploy" / "onnx" / "model.onnx")
    manifest = json.loads((wide / "out" / "manifest.json").read_text())
    name = "deploy/onnx/model.onnx"
    manifest["files"][name] = file_facts(wide / "out" / name)
    (wide / "out" / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = slimbert("verify", "out")
    assert code == 1
    assert "deploy/onnx/model.onnx: DIFFERENT ANSWERS" in out


@pytest.mark.slow
@needs_rtx
def test_engines_are_deployed_beside_the_graphs(wide, slimbert, monkeypatch):
    monkeypatch.setattr("tools.verification.gpu_name_and_capability", lambda: None)
    arguments = ("--export", "onnx,tensorrt-rtx", "--dtype", "fp16", "--target", "SM86", "--dialect", "standard")
    code, _, err = slimbert(*RUN_WIDE, *arguments)
    assert code == 0, err
    assert (wide / "out" / "tensorrt-rtx" / "model_fp16.engine.json").is_file()
    engine = report_of(wide)["artifacts"][-1]
    assert engine["fusion"].startswith("attention fused in 3 of 3")
    code, out, _ = slimbert("verify", "out")
    assert code == 0
    assert "tensorrt-rtx/model_fp16.engine: not run: the engine needs a GPU" in out


BAD = {
    "export": (("--export", "papyrus"), "export-0: .* got 'papyrus'"),
    "dtype": (("--dtype", "fp8"), "dtype-0: .* got 'fp8'"),
    "dialect": (("--dialect", "ort-cuda"), "dialect: .* got 'ort-cuda'"),
    "target": (("--target", "SM80"), "--target is for --export tensorrt-rtx"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_refused_before_anything_is_written(wide, slimbert, name):
    extra, message = BAD[name]
    assert re.search(message, refused(slimbert(*RUN_WIDE, *extra)))
    assert not (wide / "out").exists()


def test_a_missing_builder_names_its_extra_before_anything_is_written(wide, slimbert, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "slimbert[tensorrt]" in refused(slimbert(*RUN_WIDE, "--export", "onnx,tensorrt"))
    assert not (wide / "out").exists()
