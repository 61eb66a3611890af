from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch

from exporter.engine import builder
from exporter.engine.export import engine_from_onnx
from exporter.engine.options import EngineError, EngineOptions
from exporter.engine.profile_shapes import ProfileShapes
from exporter.engine.record import read_engine, record_path
from exporter.engine.source import source_from_onnx
from exporter.int8.qdq import activation_ranges, qdq_from_onnx
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.exporter.engine.fake_tensorrt import FakeTensorRt, layer_json
from tests.read_only import read_only
from tests.tiny import randomise, tiny_batch

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed: builds are not tried"
)
PROFILES = (ProfileShapes("small", (1, 1, 2), (1, 16, 32)), ProfileShapes("large", (1, 8, 32), (1, 32, 40)))
RTX, FULL = {"library": "tensorrt-rtx"}, {"library": "tensorrt"}


def write_onnx(path, heads, ffn, *, head="sequence-classification", head_dim=32, dtype="fp16", parts=None):
    sizes = {"hidden_size": 64, "head_dim": head_dim, "num_attention_heads": 64 // head_dim}
    model = tiny_compact(head, heads, ffn, **sizes)
    randomise(model, 0, std=0.1)
    return onnx_from_model(model, path, options=GraphOptions(dtype=dtype, fp32_parts=parts)).path


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    write_onnx(folder / "half.onnx", [2, 0], [8, 0], parts=())
    write_onnx(folder / "fp32.onnx", [2, 0], [8, 0], dtype="fp32")
    return folder


@pytest.fixture
def half(originals, tmp_path):
    return Path(shutil.copy(originals / "half.onnx", tmp_path))


@pytest.fixture
def fp32(originals, tmp_path):
    return Path(shutil.copy(originals / "fp32.onnx", tmp_path))


@needs_rtx
@pytest.mark.parametrize(
    ("head", "head_dim", "parts"),
    [("sequence-classification", 32, ()), ("token-classification", 64, ("layer_norm",))],
)
def test_half_precision_attention_is_fused_in_every_layer_with_heads(tmp_path, head, head_dim, parts):
    # Uneven, one head, no head, odd; FFN odd and empty; the last layer of the classifier has one query and one head.
    path = write_onnx(tmp_path / "m.onnx", [3, 0, 5, 1], [40, 33, 0, 8], head=head, head_dim=head_dim, parts=parts)
    export = engine_from_onnx(path, tmp_path / "m.engine", EngineOptions(**RTX, precision="fp16", profiles=PROFILES))
    record = export.record
    assert (record.fused_attention_layers, record.attention_layers, record.unfused) == (3, 3, ())
    assert (record.requested_precision, record.proven_precision) == ("fp16", "fp16")
    assert record.compute_capabilities == ("SM80", "SM86", "SM89", "SM120")
    assert record.arch.heads == (3, 0, 5, 1)
    assert (record.onnx_sha256, record.profiles) == (source_from_onnx(path).sha256, PROFILES)
    assert (record.bytes, record.gpu) == (export.path.stat().st_size, None)
    assert record.build_seconds > 0
    assert read_engine(export.path)[1] == record
    assert "attention fused in 3 of 3 layers" in str(export)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["m.engine", "m.engine.json", "m.onnx"]


@needs_rtx
def test_fp32_engine_has_fp32_layers_and_no_fused_attention(tmp_path, fp32):
    options = EngineOptions(**RTX, precision="fp32", profiles=PROFILES[:1], targets=("SM86",), optimization_level=1)
    record = engine_from_onnx(fp32, tmp_path / "m.engine", options).record
    assert (record.proven_precision, record.fused_attention_layers, record.attention_layers) == ("fp32", 0, 1)
    assert (record.compute_capabilities, record.optimization_level) == (("SM86",), 1)


@needs_rtx
def test_int8_engine_has_int8_products_and_fused_attention(tmp_path):
    half = write_onnx(tmp_path / "half.onnx", [2, 1], [8, 32], head="token-classification", parts=())
    int8 = tmp_path / "int8.onnx"
    qdq_from_onnx(half, int8, activation_ranges(half, [tiny_batch()]))
    options = EngineOptions(**RTX, precision="int8", profiles=PROFILES[:1])
    record = engine_from_onnx(int8, tmp_path / "m.engine", options).record
    assert (record.proven_precision, record.fused_attention_layers) == ("int8", 2)


@needs_rtx
def test_one_head_at_batch_1_alone_is_not_fused_and_says_so(tmp_path):
    path = write_onnx(tmp_path / "m.onnx", [1], [8], head="token-classification", parts=())
    profiles = (ProfileShapes("b1", (1, 1, 1), (1, 16, 32)),)
    with pytest.raises(
        EngineError, match=r"fused in 0 of 1 layers only; .*self/Softmax. .* profiles that reach batch 2"
    ):
        engine_from_onnx(path, tmp_path / "m.engine", EngineOptions(**RTX, precision="fp16", profiles=profiles))
    assert [x.name for x in tmp_path.iterdir()] == ["m.onnx"]


@needs_rtx
@pytest.mark.parametrize("target", ["SM90", "SM999", "NONE", "hopper"])
def test_targets_that_the_library_does_not_know_are_named(tmp_path, half, target):
    with pytest.raises(
        InputError, match=rf"does not build for {target}; it builds for .*SM80.* library tensorrt on it"
    ):
        engine_from_onnx(half, tmp_path / "m", EngineOptions(**RTX, precision="fp16", targets=("SM80", target)))


@needs_rtx
def test_graph_that_the_parser_refuses(tmp_path, half):
    model = onnx.load(half)
    next(node for node in model.graph.node if node.op_type == "Softmax").op_type = "Softmacs"
    onnx.save(model, half)
    with pytest.raises(InputError, match=r"TensorRT cannot read .*half\.onnx \(.*Softm"):
        engine_from_onnx(half, tmp_path / "m.engine", EngineOptions(**RTX, precision="fp16"))


@pytest.mark.parametrize("wanted", ["fp16", "int8", "bf16"])
def test_a_graph_of_another_precision_is_refused(tmp_path, fp32, wanted):
    with pytest.raises(
        InputError, match=rf"fp32\.onnx has fp32 products, not {wanted}: .* Export the graph as {wanted}"
    ):
        engine_from_onnx(fp32, tmp_path / "m.engine", EngineOptions(**RTX, precision=wanted))


def test_profile_beyond_the_position_table(tmp_path, half):
    options = EngineOptions(**RTX, precision="fp16", profiles=(ProfileShapes("p", (1, 1, 1), (1, 1, 41)),))
    with pytest.raises(InputError, match="goes beyond the model's 40 positions"):
        engine_from_onnx(half, tmp_path / "m.engine", options)


def test_folder_in_place_of_a_file(tmp_path, half):
    with pytest.raises(InputError, match=r"is a folder; pass the file to write, such as .*model\.engine"):
        engine_from_onnx(half, tmp_path, EngineOptions(**RTX, precision="fp16"))


def test_folder_that_cannot_be_written_is_found_before_the_build(tmp_path, half, monkeypatch):
    monkeypatch.setattr("pruning.atomic.TemporaryFile", read_only)
    with pytest.raises(InputError, match=r"m\.engine can not be written: .* takes no files .* Choose another place"):
        engine_from_onnx(half, tmp_path / "new" / "m.engine", EngineOptions(**RTX, precision="fp16"))
    assert not (tmp_path / "new").exists()


def fake(monkeypatch, path, **answers):
    """A `tensorrt` on an A100 whose inspector says that every product of the graph is fp16 and attention fused."""
    source = source_from_onnx(path)
    layers = [layer_json(name, name) for name in source.products]
    layers += [layer_json("_gemm_mha_v2", name) for name in source.attentions]
    api = FakeTensorRt(**({"inspected": layers} | answers))
    monkeypatch.setitem(sys.modules, "tensorrt", api)
    monkeypatch.setattr(builder, "gpu_name_and_capability", lambda: ("A100", "SM80"))
    return api


def full(**options):
    return EngineOptions(**FULL, precision="fp16", profiles=PROFILES[:1], **options)


def test_tensorrt_proves_precision_with_its_inspector(tmp_path, half, monkeypatch):
    api = fake(monkeypatch, half)
    options = full(hardware_compatibility="ampere_plus", version_compatible=True, optimization_level=5)
    record = engine_from_onnx(half, tmp_path / "m.engine", options).record
    assert (record.proven_precision, record.fused_attention_layers, record.gpu) == ("fp16", 1, "A100")
    assert (record.compute_capabilities, record.version) == (("SM80",), "10.16.1.11")
    assert api.config.calls == [("clear", "tf32"), ("set", "version_compatible")]
    assert api.config.hardware_compatibility_level.name == "AMPERE_PLUS"
    assert api.config.builder_optimization_level == 5
    assert api.config.profiles[0].shapes == {"input_ids": PROFILES[0].corners}
    assert api.runtime.engine_host_code_allowed
    assert api.network_flags == 2
    assert (tmp_path / "m.engine").read_bytes() == b"engine"


def test_tf32_is_left_on_if_asked_for(tmp_path, half, monkeypatch):
    api = fake(monkeypatch, half, version="11.4.0.106")
    assert engine_from_onnx(half, tmp_path / "m.engine", full(tf32=True)).record.tf32
    assert (api.config.calls, api.network_flags) == ([], 0)
    assert not api.runtime.engine_host_code_allowed


def test_engine_of_another_precision_leaves_the_older_one(tmp_path, half, monkeypatch):
    fake(monkeypatch, half)
    export = engine_from_onnx(half, tmp_path / "m.engine", full())
    source = source_from_onnx(half)
    fake(monkeypatch, half, serialized=b"new", inspected=[layer_json("k", name, "Float") for name in source.products])
    with pytest.raises(EngineError, match="is fp16 in the graph and fp32 in the engine"):
        engine_from_onnx(half, tmp_path / "m.engine", full())
    assert read_engine(export.path)[0] == b"engine"


def test_unfused_attention_can_be_allowed(tmp_path, half, monkeypatch):
    fake(monkeypatch, half, inspected=[layer_json("k", name) for name in source_from_onnx(half).products])
    record = engine_from_onnx(half, tmp_path / "m.engine", full(allow_unfused=True)).record
    assert record.unfused == ("bert.encoder.layer.0.attention.self/Softmax",)


def test_failed_build_says_what_tensorrt_said(tmp_path, half, monkeypatch):
    fake(monkeypatch, half, serialized=None)
    with pytest.raises(EngineError, match=r"tensorrt 10\.16\.1\.11 could not build .*half\.onnx: out of memory"):
        engine_from_onnx(half, tmp_path / "m.engine", full())
    assert [x.name for x in tmp_path.iterdir()] == ["half.onnx"]


def test_profile_that_tensorrt_does_not_take(tmp_path, half, monkeypatch):
    api = fake(monkeypatch, half)
    monkeypatch.setattr(api.config, "add_optimization_profile", lambda profile: -1)
    with pytest.raises(EngineError, match="tensorrt does not take profile small"):
        engine_from_onnx(half, tmp_path / "m.engine", full())


def test_engine_that_does_not_open_after_the_build(tmp_path, half, monkeypatch):
    fake(monkeypatch, half, engine="refused")
    with pytest.raises(EngineError, match="just built cannot be opened: no error was logged"):
        engine_from_onnx(half, tmp_path / "m.engine", full())


def test_timing_cache_is_made_and_updated(tmp_path, half, monkeypatch):
    fake(monkeypatch, half)
    options = full(timing_cache=tmp_path / "timing.cache")
    engine_from_onnx(half, tmp_path / "m.engine", options)
    engine_from_onnx(half, tmp_path / "m.engine", options)
    assert (tmp_path / "timing.cache").read_bytes() == b"++"


@pytest.mark.parametrize("content", [b"damaged", b"of another gpu"])
def test_timing_cache_that_cannot_be_used(tmp_path, half, monkeypatch, content):
    fake(monkeypatch, half)
    (tmp_path / "timing.cache").write_bytes(content)
    with pytest.raises(InputError, match=r"timing\.cache is damaged or of another GPU or TensorRT version; delete it"):
        engine_from_onnx(half, tmp_path / "m.engine", full(timing_cache=tmp_path / "timing.cache"))


def test_tensorrt_builds_on_a_gpu_only(tmp_path, half, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="there is none here; run on that machine, or build with tensorrt-rtx"):
        engine_from_onnx(half, tmp_path / "m.engine", full())


def test_missing_library(tmp_path, half, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(InputError, match=r'pip install "slimbert\[tensorrt\]"'):
        engine_from_onnx(half, tmp_path / "m.engine", full())
    assert not record_path(tmp_path / "m.engine").exists()
