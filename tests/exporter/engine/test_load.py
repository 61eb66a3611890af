from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch

from exporter.engine import load
from exporter.engine.export import engine_from_onnx
from exporter.engine.library import TensorRt
from exporter.engine.load import TensorRtEngine, load_engine, reporter_from_api
from exporter.engine.options import EngineError, EngineOptions, Library
from exporter.engine.profile_shapes import ProfileShapes
from exporter.options import GraphOptions
from exporter.parity import check_parity, parity_batches, require_parity
from exporter.to_onnx import finite_masking, onnx_from_model
from pruning.batching import predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.exporter.engine.fake_tensorrt import CPU, FakeEngine, FakeStream, FakeTensorRt, layer_json
from tests.exporter.engine.test_record import RECORD, written
from tests.tiny import randomise, tiny_batch

FP16_TOLERANCE = 2e-2
PROFILES = (ProfileShapes("small", (1, 1, 1), (1, 8, 16)), ProfileShapes("large", (1, 4, 8), (1, 8, 16)))


@pytest.fixture
def engine():
    api = FakeTensorRt("1.7.1.116")
    trt = TensorRt(Library.TENSORRT_RTX, api, (1, 7, 1, 116))
    return TensorRtEngine(trt, FakeEngine(), replace(RECORD, profiles=PROFILES), CPU, FakeStream())


def test_inputs_and_outputs_are_the_engines_own(engine):
    assert engine.input_names == ("input_ids", "attention_mask")
    assert engine.output_names == ("logits",)


def test_a_batch_is_bound_to_the_narrowest_profile(engine):
    small, large = engine.bind(tiny_batch(1, 5)), engine.bind(tiny_batch(3, 5))
    assert (small.profile, large.profile) == (0, 1)
    assert small.inputs.keys() == {"input_ids", "attention_mask"}
    assert large.outputs["logits"].shape == (3, 2)
    assert large.outputs["logits"].dtype == torch.float16


def test_one_context_per_profile(engine):
    for rows in (1, 3, 1, 2):
        engine.bind(tiny_batch(rows, 5))
    assert [context.profile for context in engine._engine.contexts] == [0, 1]


def test_enqueue_sets_shapes_and_addresses_of_its_own_binding(engine):
    first, second = engine.bind(tiny_batch(2, 5)), engine.bind(tiny_batch(4, 6))
    engine.enqueue(first, 9)
    (context,) = engine._engine.contexts
    assert context.shapes["input_ids"] == (2, 5)
    assert context.addresses == {n: t.data_ptr() for n, t in {**first.inputs, **first.outputs}.items()}
    engine.enqueue(second, 9)
    assert context.shapes["input_ids"] == (4, 6)
    assert context.streams == [9, 9]


def test_layers_are_timed_on_the_engines_stream(engine):
    engine._engine.layers = (layer_json("first", "a/MatMul"), layer_json("second", "b/Add"))
    binding = engine.bind(tiny_batch(2, 5))
    assert engine.layer_times(binding) == engine.layer_times(binding) == (("first", 1.0), ("second", 2.0))
    assert engine._engine.contexts[0].streams == [7, 7]
    assert [layer.onnx_nodes for layer in engine.layers()] == [{"a/MatMul"}, {"b/Add"}]
    engine._engine.contexts[0].accepts = False
    with pytest.raises(EngineError, match="refuses input_ids"):
        engine.layer_times(binding)


def test_the_real_interface_takes_our_reporter():
    api = pytest.importorskip("tensorrt_rtx")
    reporter = reporter_from_api(api)
    assert isinstance(reporter, api.IProfiler)
    reporter.report_layer_time("layer", 0.5)
    assert reporter.times == [("layer", 0.5)]


def test_run_and_predict_use_the_engines_stream(engine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
    assert engine.run(tiny_batch(2, 5))["logits"].dtype == torch.float16
    assert engine.predict()(tiny_batch(2, 5))["logits"].dtype == torch.float32
    assert engine._engine.contexts[0].streams == [7, 7]


def test_shape_outside_the_profiles(engine):
    with pytest.raises(InputError, match="batch 1, sequence 17 is outside the engine's profiles: small"):
        engine.bind(tiny_batch(1, 17))


def test_missing_input(engine):
    with pytest.raises(InputError, match="the batch lacks attention_mask; the engine takes input_ids, attention_mask"):
        engine.bind({"input_ids": tiny_batch()["input_ids"]})


def test_tensorrt_refusals_are_errors(engine, monkeypatch):
    binding = engine.bind(tiny_batch(1, 5))
    context = engine._engine.contexts[0]
    context.execute_async_v3 = lambda stream: False
    with pytest.raises(EngineError, match="could not run profile small"):
        engine.enqueue(binding, 9)
    context.accepts = False
    with pytest.raises(EngineError, match=r"refuses input_ids of shape \(1, 5\)"):
        engine.bind(tiny_batch(1, 5))
    monkeypatch.setattr(engine._engine, "create_execution_context", lambda: None)
    with pytest.raises(EngineError, match="could not create an execution context"):
        engine.bind(tiny_batch(2, 5))


def test_profile_that_cannot_be_chosen(engine, monkeypatch):
    monkeypatch.setattr(
        "tests.exporter.engine.fake_tensorrt.FakeContext.set_optimization_profile_async",
        lambda self, profile, stream: False,
    )
    with pytest.raises(EngineError, match="could not choose profile small"):
        engine.bind(tiny_batch(1, 5))


def fake_machine(monkeypatch, *, gpu=("RTX 3090", "SM86"), version=RECORD.version, engine=None):
    api = FakeTensorRt(version, engine=engine or FakeEngine())
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", api)
    monkeypatch.setattr(load, "gpu_name_and_capability", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.inference_mode(mode=False))
    monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
    return api


def test_checked_engine_is_opened(tmp_path, monkeypatch):
    api = fake_machine(monkeypatch)
    engine = load_engine(written(tmp_path / "m.engine"))
    assert (engine.record, engine.device) == (RECORD, torch.device("cuda", 0))
    assert not api.runtime.engine_host_code_allowed


def test_version_compatible_engine_may_bring_its_code(tmp_path, monkeypatch):
    api = fake_machine(monkeypatch)
    load_engine(written(tmp_path / "m.engine", replace(RECORD, version_compatible=True)))
    assert api.runtime.engine_host_code_allowed


def test_changed_engine_is_refused_before_any_library_is_imported(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(InputError, match="it was not opened"):
        load_engine(written(tmp_path / "m.engine", data=b"changed"))


def test_other_gpu_and_version_are_named(tmp_path, monkeypatch):
    path = written(tmp_path / "m.engine")
    fake_machine(monkeypatch, gpu=("H200", "SM90"))
    with pytest.raises(InputError, match=r"needs SM80 or SM86; this is H200 \(SM90\)"):
        load_engine(path)
    fake_machine(monkeypatch, version="1.8.0.1")
    with pytest.raises(InputError, match=r"needs tensorrt-rtx 1\.7\.1\.116; 1\.8\.0\.1 is installed"):
        load_engine(path)


def test_engine_that_tensorrt_refuses(tmp_path, monkeypatch):
    fake_machine(monkeypatch, engine="refused")
    with pytest.raises(EngineError, match=r"tensorrt-rtx 1\.7\.1\.116 cannot open .*m\.engine"):
        load_engine(written(tmp_path / "m.engine"))


def test_no_gpu_is_one_line(tmp_path, monkeypatch):
    fake_machine(monkeypatch, gpu=None)
    with pytest.raises(InputError, match=r"needs a GPU .* there is none here"):
        load_engine(written(tmp_path / "m.engine"))


@pytest.mark.gpu
@pytest.mark.parametrize("library", list(Library))
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-3), ("fp16", FP16_TOLERANCE)])
def test_engine_answers_like_pytorch(tmp_path, library, dtype, tolerance):
    if not torch.cuda.is_available() or importlib.util.find_spec(library.module) is None:
        pytest.skip(f"needs a GPU and {library}")
    capability = "SM{}{}".format(*torch.cuda.get_device_capability())
    if library == Library.TENSORRT_RTX and capability == "SM90":
        pytest.skip("tensorrt-rtx does not run on SM90")
    model = tiny_compact(
        "token-classification", [2, 1, 0], [24, 0, 9], hidden_size=64, head_dim=32, num_attention_heads=2
    )
    randomise(model, 0, std=0.1)
    onnx = onnx_from_model(model, tmp_path / "m.onnx", options=GraphOptions(dtype=dtype)).path
    targets = (capability,) if library == Library.TENSORRT_RTX else ()
    export = engine_from_onnx(onnx, tmp_path / "m.engine", EngineOptions(library, dtype, targets=targets))
    predict = load_engine(export.path).predict()
    batches = parity_batches(model.config.vocab_size, 40, seed=0)
    with finite_masking(model):
        require_parity(
            check_parity(predict_from_model(model), predict, batches, artifact=str(export), tolerance=tolerance)
        )
