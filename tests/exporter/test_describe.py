from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from exporter import metadata
from exporter.describe import TensorDescription, describe_onnx
from exporter.metadata import GraphForm, GraphMetadata, metadata_from_props, producer_version
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
from pruning.arch import ArchSpec
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import tiny_bert

ARCH = ArchSpec.from_lists(16, 4, [1, 0], [2, 3])


def write_foreign(path):
    weight = helper.make_tensor("w", TensorProto.FLOAT16, [2, 3], [0.0] * 6)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4, None, 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [4, "rows", 3])]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("FastGelu", ["h"], ["y"], domain="com.microsoft"),
    ]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, [weight])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def test_own_file(tmp_path):
    model = tiny_bert("encoder", add_pooling_layer=False)
    found = describe_onnx(onnx_from_model(model, tmp_path / "model.onnx").path)
    assert found.head == "encoder"
    assert found.form == GraphForm()
    assert (found.fused_attention, found.attention_layers) == (0, 3)
    assert found.arch == ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])
    assert found.opsets == {"ai.onnx": 20}
    assert found.bytes == (tmp_path / "model.onnx").stat().st_size
    assert found.producer.startswith("slimbert")
    assert found.nodes["LayerNormalization"] == 7
    assert list(found.nodes.values()) == sorted(found.nodes.values(), reverse=True)
    assert found.precisions.keys() == {"FLOAT"}
    assert found.parameters == model.num_parameters()
    assert found.inputs[0] == TensorDescription("input_ids", "INT64", ("batch", "sequence"))
    assert found.outputs == (TensorDescription("last_hidden_state", "FLOAT", ("batch", "sequence", 16)),)


def test_compact_file_tells_its_architecture(tmp_path):
    model = tiny_compact("masked-lm", [1, 0], [2, 3])
    assert describe_onnx(str(onnx_from_model(model, tmp_path / "model.onnx").path)).arch == ARCH


def test_foreign_file(tmp_path):
    found = describe_onnx(write_foreign(tmp_path / "foreign.onnx"))
    assert (found.arch, found.head, found.form, found.producer) == (None, None, None, "")
    assert (found.fused_attention, found.attention_layers) == (0, None)
    assert found.opsets == {"ai.onnx": 17, "com.microsoft": 1}
    assert found.nodes == {"MatMul": 1, "com.microsoft::FastGelu": 1}
    assert found.precisions == {"FLOAT16": 6}
    assert found.inputs == (TensorDescription("x", "FLOAT16", (4, "?", 2)),)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx does not exist or is not a file"):
        describe_onnx(tmp_path / "none.onnx")


def test_corrupt_file(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not an onnx file at all")
    with pytest.raises(InputError, match=r"broken\.onnx is not an ONNX file, or a damaged one"):
        describe_onnx(tmp_path / "broken.onnx")


def test_empty_file(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.onnx holds no ONNX graph"):
        describe_onnx(tmp_path / "empty.onnx")


def test_metadata_round_trip():
    form = GraphForm("ort-cuda", "fp16", right_padding=True, pooling="mean", fp32_parts=("layer_norm",))
    for stored in (GraphMetadata(ARCH, "encoder"), GraphMetadata(ARCH, "encoder", form)):
        assert metadata_from_props(stored.to_props()) == stored
    assert metadata_from_props({}) is None


def test_metadata_of_older_files_have_the_default_form():
    props = GraphMetadata(ARCH, "encoder", GraphForm(first_token=True)).to_props()
    del props["slimbert.form"]
    assert metadata_from_props(props) == GraphMetadata(ARCH, "encoder", GraphForm())


@pytest.mark.parametrize("text", ["{", "[]", '{"colour": "red"}', '{"fp32_parts": 3}'])
def test_damaged_form_is_named(text):
    props = GraphMetadata(ARCH, "encoder").to_props() | {"slimbert.form": text}
    with pytest.raises(InputError, match=r"slimbert\.form in the ONNX file is damaged or newer than slimbert"):
        metadata_from_props(props)


def test_fused_file_tells_its_fused_layers(tmp_path):
    model, options = tiny_compact("encoder", [1, 0], [2, 3]), GraphOptions(dialect="ort-cpu")
    found = describe_onnx(onnx_from_model(model, tmp_path / "model.onnx", options=options).path)
    assert (found.fused_attention, found.attention_layers, found.form.dialect) == (1, 1, "ort-cpu")
    assert found.nodes["com.microsoft::Attention"] == 1


def test_damaged_metadata_is_named():
    props = GraphMetadata(ARCH, "encoder").to_props() | {"slimbert.arch": "{"}
    with pytest.raises(InputError, match="not an architecture: invalid JSON"):
        metadata_from_props(props)


def test_version_of_a_source_tree_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(metadata, "PRODUCER", "no-such-distribution")
    assert producer_version() == "unknown"
