"""Files and requests that no runtime can take: one line that says what was found and what would do, exit code 2."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from functools import partial

import onnx
import pytest
import torch

from bench.runners import tensorrt_engine
from bench.runners.registry import load_runner
from exporter.deploy import write_deploy
from exporter.engine import load
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice
from tests.exporter.engine.fake_tensorrt import FakeEngine, FakeStream, FakeTensorRt
from tests.exporter.engine.test_load import PROFILES
from tests.exporter.engine.test_record import RECORD, written
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer
from tests.tools.test_bad_input import refused, snapshot

TEXTS = ("--task", "text-classification", "--data", "reviews.csv")
FILE = "deploy/onnx/model.onnx"
KNOWN = rf"it knows ai\.onnx 1 to {onnx.defs.onnx_opset_version()} and com\.microsoft 1\. .* writes ai\.onnx 20 to 23"


@pytest.fixture(scope="module")
def written_deploy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts") / "deploy"
    write_deploy(tiny_bert(), tiny_tokenizer(), folder)
    return folder


@pytest.fixture
def deployed(project, written_deploy):
    shutil.copytree(written_deploy, project / "deploy")
    return project


def content(change):
    def spoil(path):
        path.write_bytes(change(path.read_bytes()))

    return spoil


def graph(change):
    def spoil(path):
        model = onnx.load(path)
        change(model)
        onnx.save(model, path)

    return spoil


def of_another_domain(model, *, version):
    model.graph.node[0].domain = "com.acme"
    if version:
        model.opset_import.add(domain="com.acme", version=version)


def with_opset(model, *, version):
    model.opset_import[0].version = version


def of_another_model(model):
    model.graph.input[0].name = "pixels"
    for node in model.graph.node:
        node.input[:] = ["pixels" if name == "input_ids" else name for name in node.input]


SPOILS = {
    "truncated": (content(lambda data: data[:-100]), "is not an ONNX file, or a damaged one"),
    "text": (content(lambda data: b"not a graph at all"), "is not an ONNX file, or a damaged one"),
    "empty": (content(lambda data: b""), "holds no ONNX graph"),
    "foreign operators": (graph(partial(of_another_domain, version=3)), rf"operator set com\.acme 3, .*; {KNOWN}"),
    "undeclared operators": (
        graph(partial(of_another_domain, version=0)),
        rf"operator set com\.acme of no stated version, .*; {KNOWN}",
    ),
    "opset of the future": (graph(partial(with_opset, version=999)), rf"operator set ai\.onnx 999, .*; {KNOWN}"),
    "opset 0": (graph(partial(with_opset, version=0)), r"operator set ai\.onnx of no stated version"),
}
COMMANDS = {
    "eval": ("eval", FILE, *TEXTS),
    "bench": ("bench", FILE, FILE, "--blocks", "2", "--seq", "8"),
    "bench of a folder": ("bench", "my-bert", "deploy", "--blocks", "2", "--seq", "8"),
    "openvino": ("bench", FILE, FILE, "--runtime", "openvino", "--blocks", "2", "--seq", "8"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("spoil", SPOILS)
def test_a_file_that_is_no_graph_of_ours_is_refused(deployed, slimbert, spoil, command):
    change, message = SPOILS[spoil]
    change(deployed / FILE)
    before = snapshot(deployed)
    err = refused(slimbert(*COMMANDS[command]))
    assert re.search(rf"model\.onnx .*{message}|model\.onnx {message}", err)
    assert snapshot(deployed) == before


def test_another_models_file_is_refused(deployed, slimbert):
    graph(of_another_model)(deployed / FILE)
    assert "is not a BERT: its inputs are pixels" in refused(slimbert(*COMMANDS["eval"]))


def test_a_damaged_configuration_beside_the_file_is_named(deployed, slimbert):
    (deployed / "deploy" / "config.json").write_text("{")
    for command in ("eval", "bench"):
        assert "config.json" in refused(slimbert(*COMMANDS[command]))


@pytest.mark.parametrize("opset", [19, 24, 999])
@pytest.mark.parametrize("to", ["onnx", "triton", "tensorrt-rtx"])
def test_an_opset_out_of_range_is_refused(project, slimbert, to, opset):
    err = refused(slimbert("export", "my-bert", "--to", to, "--opset", opset, "--out", "out"))
    assert f"the opset must be one of 20, 21, 22, 23; got {opset}" in err
    assert not (project / "out").exists()


@pytest.mark.parametrize("length", [1, 41])
@pytest.mark.parametrize("model", ["my-bert", FILE])
def test_texts_beyond_the_position_table_are_refused(deployed, slimbert, model, length):
    err = refused(slimbert("eval", model, *TEXTS, "--max-length", length))
    assert f"--max-length must be 2 to 40, the positions of the model; got {length}" in err


@pytest.mark.parametrize("runtime", ["ort-cpu", "openvino", "torch-cpu"])
def test_sequences_beyond_the_position_table_are_refused(deployed, slimbert, runtime):
    model = "my-bert" if runtime == "torch-cpu" else FILE
    shutil.move(deployed / "deploy" / "config.json", deployed / "config.json.elsewhere")  # the file knows by itself
    err = refused(slimbert("bench", model, model, "--runtime", runtime, "--blocks", "2", "--seq", "41"))
    assert "sequence length 41 is beyond the 40 positions" in err


def test_a_runner_refuses_masks_that_its_file_is_wrong_for(project, slimbert):
    arguments = ("export", "my-bert", "--dialect", "ort-cpu", "--right-padding", "--out", "lengths")
    assert slimbert(*arguments)[0] == 0
    with load_runner("ort-cpu", project / "lengths") as runner:
        assert runner.run(tiny_batch(padding="right"))["logits"].shape == (4, 2)
        for padding in ("left", "holes"):
            with pytest.raises(InputError, match="exported for right padding only"):
                runner.run(tiny_batch(padding=padding))


PRECISIONS = {
    "openvino": ("fp16", "openvino cannot be asked for fp16; it has fp32, bf16, int8"),
    "ort-cpu": ("bf16", "ort-cpu cannot be asked for bf16; it has fp32, fp16, int8"),
    "torch-cpu": ("int8", "torch-cpu cannot be asked for int8"),
}


@pytest.mark.parametrize("runtime", PRECISIONS)
def test_a_precision_that_a_runtime_does_not_have_is_refused(deployed, slimbert, runtime):
    dtype, message = PRECISIONS[runtime]
    assert message in refused(slimbert("bench", "my-bert", "my-bert", "--runtime", runtime, "--dtype", dtype))


def test_a_file_of_another_precision_is_refused(deployed, slimbert):
    assert "model.onnx is fp32, not fp16" in refused(slimbert("bench", FILE, FILE, "--dtype", "fp16"))
    assert "Invalid value for '--dtype'" in refused(slimbert("export", "my-bert", "--dtype", "bf16", "--out", "out"))


LIBRARIES = {
    "onnxruntime": (("eval", FILE, *TEXTS), ("export", "my-bert", "--out", "out"), ("bench", FILE, FILE)),
    "openvino": (("bench", FILE, FILE, "--runtime", "openvino"),),
    "tensorrt": (
        ("export", "my-bert", "--to", "tensorrt", "--out", "out"),
        ("bench", FILE, FILE, "--runtime", "tensorrt"),
    ),
    "tensorrt_rtx": (("export", "my-bert", "--to", "tensorrt-rtx", "--out", "out"),),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_names_its_extra(deployed, slimbert, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    extra = "cpu" if library == "onnxruntime" else library.replace("_", "-")
    before = snapshot(deployed)
    for command in LIBRARIES[library]:
        assert f'pip install "slimbert[{extra}]"' in refused(slimbert(*command))
    assert snapshot(deployed) == before


@pytest.fixture
def machine(deployed, monkeypatch):
    """A machine with a GPU of SM86 and TensorRT-RTX, and an engine for it in the current folder."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", FakeTensorRt(RECORD.version, engine=FakeEngine()))
    monkeypatch.setattr(tensorrt_engine, "missing_cuda", lambda: None)
    monkeypatch.setattr(tensorrt_engine, "gpu_of", lambda options: FakeDevice())
    monkeypatch.setattr(load, "gpu_name_and_capability", lambda device=0: ("RTX 3090", "SM86"))
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.inference_mode(mode=False))
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    shutil.copy(deployed / "deploy" / "config.json", deployed / "config.json")
    return deployed


CAPABLE = replace(RECORD, compute_capabilities=("SM80", "SM86"), profiles=PROFILES)
ENGINES = {
    "changed": (CAPABLE, b"Engine", (), "is not the engine that m.engine.json describes .* it was not opened"),
    "another GPU": (
        replace(CAPABLE, compute_capabilities=("SM89",)),
        b"engine",
        (),
        r"needs SM89; this is RTX 3090 \(SM86\)",
    ),
    "another version": (
        replace(CAPABLE, version="1.5.0.9"),
        b"engine",
        (),
        r"needs tensorrt-rtx 1\.5\.0\.9; 1\.7\.1\.116 is",
    ),
    "long sequence": (CAPABLE, b"engine", ("--seq", "17"), "sequence length 17 is beyond the 16 positions"),
    "large batch": (
        CAPABLE,
        b"engine",
        ("--batch", "9"),
        "batch 9, sequence 8 is outside the engine's profiles: small",
    ),
    "another precision": (CAPABLE, b"engine", ("--dtype", "int8"), "computes in fp16, not in int8; build another"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_does_not_fit_is_refused(machine, slimbert, name):
    record, data, extra, message = ENGINES[name]
    written(machine / "m.engine", record, data)
    defaults = () if "--seq" in extra else ("--seq", "8")
    arguments = ("m.engine", "m.engine", "--runtime", "tensorrt-rtx", "--clock", "gpu", "--blocks", "2")
    err = refused(slimbert("bench", *arguments, *defaults, *extra))
    assert re.search(message, err)
    assert not (machine / "bench.json").exists()


def test_an_engine_without_its_side_car_is_refused(machine, slimbert):
    written(machine / "m.engine").with_name("m.engine.json").unlink()
    for command in (("inspect", "m.engine"), ("bench", "m.engine", "m.engine", "--runtime", "tensorrt-rtx")):
        assert "an engine needs its side-car m.engine.json" in refused(slimbert(*command))


def test_an_engine_is_not_scored(machine, slimbert):
    written(machine / "m.engine")
    assert "is a TensorRT engine; score the ONNX file" in refused(slimbert("eval", "m.engine", *TEXTS))
