"""What ``slimbert bench`` refuses: one clear line, exit code 2, and nothing on disk is touched."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import onnx
import onnxruntime
import pytest
from onnx import helper

from bench.runners.tensorrt_engine import TensorRtRtxRunner
from bench.samples_file import write_samples
from exporter.engine.library import TensorRt
from exporter.engine.load import TensorRtEngine
from exporter.engine.options import Library
from pruning.checkpoint import save_checkpoint
from tests.bench.fake_device import FakeDevice
from tests.bench.fakes import fake_result
from tests.exporter.engine.fake_tensorrt import CPU, FakeEngine, FakeStream, FakeTensorRt
from tests.exporter.engine.test_load import PROFILES
from tests.exporter.engine.test_record import RECORD
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.test_bad_input import refused, snapshot

QUICK = ("--blocks", "2", "--warmup-seconds", "0.001", "--seq", "16")


def test_a_runtime_that_is_not_installed_names_its_extra(project, slimbert, monkeypatch):
    for module, runtime, extra in (("openvino", "openvino", "openvino"), ("onnxruntime", "ort-cpu", "cpu")):
        monkeypatch.setitem(sys.modules, module, None)
        message = refused(slimbert("bench", "my-bert", "my-bert", "--runtime", runtime, *QUICK))
        assert f"runtime {runtime} cannot be used here: {module} is not installed" in message
        assert f'pip install "slimbert[{extra}]"' in message
    assert not (project / "bench.json").exists()


@pytest.mark.parametrize("runtime", ["torch-cuda", "ort-cuda", "tensorrt"])
def test_a_runtime_without_its_gpu_is_refused(project, slimbert, monkeypatch, runtime):
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert f"runtime {runtime} cannot be used here: " in refused(
        slimbert("bench", "my-bert", "my-bert", "--runtime", runtime, *QUICK)
    )


def test_a_runtime_that_falls_back_is_refused(project, slimbert, monkeypatch):
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda session: ["AzureExecutionProvider"])
    message = refused(slimbert("bench", "my-bert", "my-bert", *QUICK))
    assert "ONNX Runtime gave AzureExecutionProvider instead of CPUExecutionProvider" in message


def test_candidates_with_other_outputs_are_refused(project, slimbert):
    save_checkpoint(tiny_bert("encoder"), tiny_tokenizer(), project / "encoder")
    before = snapshot(project)
    message = refused(slimbert("bench", "my-bert", "encoder", *QUICK))
    assert "candidate-1 answers with last_hidden_state, but the baseline answers with logits" in message
    assert snapshot(project) == before


def without_token_types(file):
    """The same graph, with the first token type for every token."""
    model = onnx.load(file)
    kept = [value for value in model.graph.input if value.name != "token_type_ids"]
    zeros = helper.make_node("Sub", ["input_ids", "input_ids"], ["token_type_ids"])
    nodes = [zeros, *model.graph.node]
    del model.graph.input[:], model.graph.node[:]
    model.graph.input.extend(kept)
    model.graph.node.extend(nodes)
    onnx.save(model, file)


@pytest.fixture
def exported(project, slimbert):
    """``my-bert`` as a deploy folder with fp32 and fp16, beside it."""
    assert slimbert("export", "my-bert", "--dtype", "fp16", "--out", "exported", "--quiet")[0] == 0
    return project / "exported"


def test_candidates_with_other_inputs_are_refused(project, slimbert, exported):
    without_token_types(exported / "onnx" / "model.onnx")
    message = refused(slimbert("bench", "my-bert", "exported", *QUICK))
    assert "candidate-1 reads input_ids, attention_mask, but the baseline reads input_ids, attention_mask, t" in message


def test_mixed_precisions_are_refused_unless_asked_for(project, slimbert, exported):
    both = ("bench", "my-bert", "exported/onnx/model_fp16.onnx", *QUICK)
    message = refused(slimbert(*both))
    assert "candidate-1 computes in fp16, but the baseline in fp32" in message
    assert "allow it with --mixed-precision" in message
    code, out, _ = slimbert(*both, "--mixed-precision")
    assert (code, "fp16" in out) == (0, True)


def test_sequences_beyond_the_model_are_refused(project, slimbert):
    assert "sequence length 41 is beyond the 40 positions of a model" in refused(
        slimbert("bench", "my-bert", "my-bert", *QUICK[:-1], "41")
    )


@pytest.fixture
def engine(project, monkeypatch):
    """``m.engine`` for a TensorRT-RTX of Python objects, profiles from one request of 1 token on."""
    trt = TensorRt(Library.TENSORRT_RTX, FakeTensorRt("1.7.1.116"), (1, 7, 1, 116))

    def load(runner_class, prepared, threads, options):
        opened = TensorRtEngine(trt, FakeEngine(), replace(RECORD, profiles=PROFILES), CPU, FakeStream())
        return runner_class(opened, FakeDevice(), vocab_size=29)

    monkeypatch.setattr(TensorRtRtxRunner, "missing", classmethod(lambda cls: None))
    monkeypatch.setattr(TensorRtRtxRunner, "prepare", classmethod(lambda cls, path, scratch, options: path))
    monkeypatch.setattr(TensorRtRtxRunner, "load", classmethod(load))
    (project / "m.engine").write_bytes(b"plan")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (("--seq", "17"), "sequence length 17 is beyond the 16 positions of a model"),
        (("--seq", "8", "--batch", "64"), "64"),
    ],
)
def test_shapes_beyond_the_profile_are_refused(project, slimbert, engine, sizes, message):
    arguments = ("m.engine", "m.engine", "--runtime", "tensorrt-rtx", "--clock", "gpu", *QUICK[:-2])
    assert message in refused(slimbert("bench", *arguments, *sizes))


def test_percentiles_with_too_few_samples_are_not_printed(project, slimbert):
    write_samples(project / "few.json", fake_result())
    code, out, _ = slimbert("bench", "--from", "few.json", "--markdown", "few.md")
    table = (project / "few.md").read_text()
    assert code == 0
    assert "p99 needs 1,000 samples per model; there are 120" in " ".join(out.split())
    assert "| p90 (wall clock) |" in table
    assert "| p99 (wall clock) |" not in table


def test_damaged_samples_are_refused_wherever_they_are_read(project, slimbert):
    write_samples(project / "good.json", fake_result())
    text = (project / "good.json").read_text()
    damaged = json.loads(text)
    damaged["cells"][0]["repetitions"][0]["samples_ms"]["wall"]["baseline"][0][0] = "soon"
    files = {
        "cut.json": (text[: len(text) // 2], "not a samples file: invalid JSON"),
        "damaged.json": (json.dumps(damaged), "a benchmark result is damaged: cells.0.repetitions.0"),
        "table.json": ('{"schema": 1, "identity": {}}', "not a benchmark result of schema 2"),
        "list.json": ("[]", "it holds list, not a JSON object"),
    }
    for name, (content, message) in files.items():
        (project / name).write_text(content)
        before = snapshot(project)
        assert message in refused(slimbert("bench", "--from", name))
        assert message in refused(slimbert("bench", "compare", name, "good.json"))
        assert message in refused(slimbert("bench", "compare", "good.json", name))
        for resume in ((), ("--resume",)):
            again = ("bench", "my-bert", "my-bert", *QUICK, "--json", name, *resume)
            assert "would be overwritten, and it is no samples file" in refused(slimbert(*again))
        assert snapshot(project) == before


def test_negative_times_are_refused(project, slimbert):
    result = fake_result()
    write_samples(project / "good.json", result)
    data = json.loads((project / "good.json").read_text())
    data["cells"][0]["repetitions"][0]["samples_ms"]["wall"]["candidate-1"][0][0] = -1.0
    (project / "past.json").write_text(json.dumps(data))
    assert "paired samples must be positive times" in refused(slimbert("bench", "--from", "past.json"))


def test_samples_of_other_models_are_not_continued(project, slimbert):
    assert slimbert("bench", "my-bert", "my-bert", *QUICK, "--quiet")[0] == 0
    before = snapshot(project)
    assert "its seed differ, 0 then, 1 now" in refused(
        slimbert("bench", "my-bert", "my-bert", *QUICK, "--seed", "1", "--resume")
    )
    shutil.copytree(project / "my-bert", project / "other")
    assert "its models differ" in refused(slimbert("bench", "my-bert", "other", *QUICK, "--resume"))
    shutil.rmtree(project / "other")
    assert snapshot(project) == before
