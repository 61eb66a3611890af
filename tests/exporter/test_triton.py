"""The configuration is checked with Triton's own protobuf, which its client package carries."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper
from transformers import AutoTokenizer

from exporter.describe import describe_onnx
from exporter.options import GraphOptions
from exporter.to_onnx import onnx_from_model
from exporter.triton import triton_config_text, write_triton_repository
from exporter.triton_options import InstanceKind, TritonBackend, TritonOptions
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import VOCAB, tiny_tokenizer

protobuf = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")

OUTPUTS = {
    "sequence-classification": {"logits": [3]},
    "question-answering": {"start_logits": [-1], "end_logits": [-1]},
    "token-classification": {"logits": [-1, 3]},
    "masked-lm": {"logits": [-1, len(VOCAB)]},
    "encoder": {"last_hidden_state": [-1, 16], "sentence_embedding": [16]},
}


def parsed(text):
    return text_format.Parse(text, protobuf.ModelConfig())


def exported(tmp_path, head="sequence-classification", **options):
    model = tiny_compact(head, [3, 0, 1], [5, 7, 0], num_labels=3)
    return model, onnx_from_model(model, tmp_path / "graph.onnx", options=GraphOptions(**options)).path


@pytest.mark.parametrize("head", OUTPUTS)
def test_inputs_and_outputs_are_the_graphs(tmp_path, head):
    _, path = exported(tmp_path, head, pooling="mean" if head == "encoder" else None)
    config = parsed(triton_config_text(describe_onnx(path), TritonOptions("bert")))
    assert {tensor.name: list(tensor.dims) for tensor in config.output} == OUTPUTS[head]
    assert {tensor.name for tensor in config.input} == {"input_ids", "attention_mask", "token_type_ids"}
    assert {(tensor.data_type, tuple(tensor.dims)) for tensor in config.input} == {(protobuf.TYPE_INT64, (-1,))}
    assert {tensor.data_type for tensor in config.output} == {protobuf.TYPE_FP32}
    assert [tensor.label_filename for tensor in config.output] == (
        ["labels.txt"] if head == "sequence-classification" else [""] * len(OUTPUTS[head])
    )


def test_onnxruntime_configuration(tmp_path):
    _, path = exported(tmp_path)
    options = TritonOptions("guard-2.1", kind=InstanceKind.CPU, max_batch=12, queue_delay_us=50)
    config = parsed(triton_config_text(describe_onnx(path), options))
    assert (config.name, config.platform, config.backend) == ("guard-2.1", "onnxruntime_onnx", "onnxruntime")
    assert (config.default_model_filename, config.max_batch_size) == ("model.onnx", 12)
    assert config.version_policy.latest.num_versions == 1
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 50
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.profile)) == (1, group.KIND_CPU, [])


def test_tensorrt_configuration_loads_every_profile(tmp_path):
    _, path = exported(tmp_path)
    options = TritonOptions("guard", TritonBackend.TENSORRT, InstanceKind.GPU, max_batch=3, profiles=2)
    config = parsed(triton_config_text(describe_onnx(path), options))
    assert (config.platform, config.backend) == ("tensorrt_plan", "tensorrt")
    assert (config.default_model_filename, config.max_batch_size) == ("model.plan", 3)
    assert list(config.instance_group[0].profile) == ["0", "1"]
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
    assert not config.dynamic_batching.preferred_batch_size


def test_repository_holds_the_model_labels_and_tokenizer(tmp_path):
    model, path = exported(tmp_path)
    model.config.id2label = {0: "safe", 1: "two\nlines", 2: "bad"}
    repository = tmp_path / "repository"
    options = TritonOptions("guard")
    written = write_triton_repository(path, path, model.config, tiny_tokenizer(), repository, options)
    assert written == repository / "guard" / "1" / "model.onnx"
    assert written.read_bytes() == path.read_bytes()
    assert (repository / "guard" / "labels.txt").read_text() == "safe\ntwo lines\nbad\n"
    assert [entry.name for entry in repository.iterdir()] == ["guard"]
    config = parsed((repository / "guard" / "config.pbtxt").read_text())
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in config.input] == [value.name for value in session.get_inputs()]
    assert [tensor.name for tensor in config.output] == [value.name for value in session.get_outputs()]
    tokenizer = AutoTokenizer.from_pretrained(repository / "guard" / "tokenizer")
    assert tokenizer("a good cat")["input_ids"] == tiny_tokenizer()("a good cat")["input_ids"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "is not a name for a Triton model"),
        ({"name": "../up"}, "is not a name for a Triton model"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"queue_delay_us": -1}, "queue_delay_us at least 0"),
        ({"backend": TritonBackend.TENSORRT, "profiles": 1}, "a TensorRT engine runs on a GPU"),
        ({"backend": TritonBackend.TENSORRT, "kind": InstanceKind.GPU}, "and 0 profiles"),
    ],
)
def test_bad_options_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        TritonOptions(**({"name": "bert"} | changes))


@pytest.mark.parametrize(
    ("kind", "dims", "message"),
    [
        (TensorProto.STRING, ["batch"], "has the type STRING"),
        (TensorProto.INT64, [4, 8], "the first must be a batch"),
        (TensorProto.INT64, [], "the first must be a batch"),
    ],
)
def test_a_graph_that_triton_cannot_batch_is_refused(tmp_path, kind, dims, message):
    value = helper.make_tensor_value_info("x", kind, dims)
    out = helper.make_tensor_value_info("y", kind, dims)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=message):
        triton_config_text(describe_onnx(Path(tmp_path / "foreign.onnx")), TritonOptions("bert"))
