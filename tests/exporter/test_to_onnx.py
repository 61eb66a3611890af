from __future__ import annotations

import os

import onnx
import pytest
import torch

import exporter.dialect
from exporter import to_onnx
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import ParityError
from exporter.standard import StandardOperators
from exporter.to_onnx import finite_masking, onnx_from_model
from pruning.arch import ArchSpec
from pruning.batching import predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import SHAPES, tiny_compact
from tests.tiny import DENSE_CLASSES, tiny_batch, tiny_bert


@pytest.mark.parametrize("head", DENSE_CLASSES)
def test_written_file_answers_like_the_model_at_other_shapes(tmp_path, head):
    model = tiny_compact(head, *SHAPES["uneven"])
    export = onnx_from_model(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(export.path), full_check=True)
    batch = tiny_batch(6, 13, seed=5, padding="left")
    expected, found = predict_from_model(model)(batch), predict_from_session(session_from_onnx(export.path))(batch)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)


def test_export_says_what_was_written(tmp_path):
    path = tmp_path / "new" / "folder" / "model.onnx"
    export = onnx_from_model(tiny_compact("encoder", [1, 0], [2, 3]), str(path), opset=21)
    assert export.path == path
    assert (export.head, export.opset) == ("encoder", 21)
    assert export.arch == ArchSpec.from_lists(16, 4, [1, 0], [2, 3])
    assert export.bytes == path.stat().st_size
    assert export.nodes == len(onnx.load(path).graph.node)
    assert export.seconds > 0
    assert len(export.parity) == 9
    assert all(result.passed and result.artifact == "onnx fp32" for result in export.parity)


def test_same_model_gives_the_same_bytes(tmp_path):
    first = onnx_from_model(tiny_bert("masked-lm"), tmp_path / "first.onnx")
    second = onnx_from_model(tiny_bert("masked-lm"), tmp_path / "second.onnx")
    assert first.path.read_bytes() == second.path.read_bytes()


def test_failed_parity_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setitem(exporter.dialect.ACTIVATIONS, "gelu", ("Relu", {}))
    with pytest.raises(ParityError, match=r"onnx fp32 does not answer like the model \(one token: .*at the limit: "):
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_failed_parity_keeps_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    older = onnx_from_model(tiny_bert(), path).path.read_bytes()
    monkeypatch.setitem(exporter.dialect.ACTIVATIONS, "gelu", ("Relu", {}))
    with pytest.raises(ParityError):
        onnx_from_model(tiny_bert(), path)
    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]


def test_a_graph_that_ignores_the_mask_does_not_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(StandardOperators, "mask", lambda ops, mask: ops.g.scalar("none", 0.0))
    with pytest.raises(ParityError) as error:
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx")
    # A row without a token attends uniformly, which is not what it does without a mask.
    failed = {result.case for result in error.value.failed}
    assert failed >= {"right padding", "left padding", "holes", "row without a token"}
    assert failed.isdisjoint({"one token", "one row", "no padding", "at the limit"})


def test_weights_that_are_not_finite_are_the_models_fault(tmp_path):
    model = tiny_bert()
    torch.nn.init.constant_(model.classifier.weight, torch.nan)
    with pytest.raises(InputError, match="its weights are NaN, infinite or huge"):
        onnx_from_model(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_half_precision_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must be float32 to be exported; got torch.float16. Call model.float\(\)"):
        onnx_from_model(tiny_bert().half(), tmp_path / "model.onnx")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is a folder; pass the file to write, such as .*model\.onnx"):
        onnx_from_model(tiny_bert(), tmp_path)


def test_model_too_large_for_one_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "MAX_FILE_BYTES", 1000)
    with pytest.raises(InputError, match=r"GiB of weights; an ONNX file holds 2 GiB"):
        onnx_from_model(tiny_bert(), tmp_path / "model.onnx")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        onnx_from_model(tiny_bert(), folder / "model.onnx")
    assert not list(folder.iterdir())


def test_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match=r"no folder can be made at .*file.*Choose another place"):
        onnx_from_model(tiny_bert(), tmp_path / "file" / "model.onnx")
    assert (tmp_path / "file").read_text() == "kept"


def test_training_mode_and_attention_survive_the_export(tmp_path):
    model = tiny_bert().train()
    onnx_from_model(model, tmp_path / "model.onnx")
    assert model.training
    assert model.config._attn_implementation == "sdpa"


def test_dense_and_compact_models_agree_on_a_row_without_a_token():
    dense, compact = tiny_bert("encoder"), tiny_compact("encoder", [4, 4, 4], [24, 24, 24])
    compact.load_state_dict(dense.state_dict())
    batch = tiny_batch()
    batch["attention_mask"][1] = 0
    with finite_masking(dense), finite_masking(compact):
        expected, found = predict_from_model(dense)(batch), predict_from_model(compact)(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
