from __future__ import annotations

import onnx
import pytest

from exporter.fastest import Speedup, faster_onnx_from_model
from exporter.metadata import FUSION_KEY
from exporter.options import GraphOptions
from exporter.ort_session import predict_from_session, session_from_onnx
from pruning.errors import InputError
from tests.tiny import tiny_batch, tiny_bert


@pytest.mark.parametrize(("value", "dialect"), [(1.2, "ort-cpu"), (1.0, "ort-cpu"), (0.9, "standard")])
def test_the_graph_that_is_not_slower_is_kept(tmp_path, value, dialect):
    seen = []

    def compare(fused, unfused):
        seen.extend(predict_from_session(session_from_onnx(path))(tiny_batch())["logits"] for path in (fused, unfused))
        return Speedup(value, 0.8, 1.3)

    result = faster_onnx_from_model(tiny_bert(), tmp_path / "new" / "model.onnx", compare)
    assert (seen[0] - seen[1]).abs().max() < 1e-4
    assert result.export.form.dialect == dialect
    assert result.fused == (dialect == "ort-cpu")
    assert result.export.path == tmp_path / "new" / "model.onnx"
    assert list((tmp_path / "new").iterdir()) == [result.export.path]
    assert session_from_onnx(result.export.path)


def test_the_report_says_which_and_why(tmp_path):
    path = tmp_path / "model.onnx"
    kept = faster_onnx_from_model(tiny_bert(), path, lambda fused, unfused: Speedup(1.05, 1.01, 1.08))
    assert str(kept) == "fusion speedup 1.050 [1.010, 1.080]: fused kept"
    other = faster_onnx_from_model(tiny_bert(), path, lambda fused, unfused: Speedup(0.95, 0.9, 0.99))
    assert str(other).endswith("unfused kept, because fusion is slower here")


def test_options_hold_for_both_graphs(tmp_path):
    options = GraphOptions(dtype="fp16", first_token=False, opset=21)
    result = faster_onnx_from_model(
        tiny_bert(), tmp_path / "m.onnx", lambda fused, unfused: Speedup(0.5, 0.4, 0.6), options=options
    )
    assert (result.export.form.dtype, result.export.form.first_token, result.export.opset) == ("fp16", False, 21)


def test_a_failed_comparison_leaves_nothing(tmp_path):
    def broken(fused, unfused):
        raise RuntimeError("no clock")

    with pytest.raises(RuntimeError, match="no clock"):
        faster_onnx_from_model(tiny_bert(), tmp_path / "model.onnx", broken)
    assert not list(tmp_path.iterdir())


def test_right_padding_has_nothing_to_compare_with(tmp_path):
    options = GraphOptions(dialect="ort-cpu", right_padding=True)
    with pytest.raises(InputError, match="right padding has no unfused graph to compare with"):
        faster_onnx_from_model(tiny_bert(), tmp_path / "m.onnx", lambda a, b: Speedup(1, 1, 1), options=options)


@pytest.mark.parametrize("values", [(1.0, 1.1, 1.2), (0.0, 0.0, 1.0), (1.3, 1.0, 1.2)])
def test_speedup_lies_in_its_interval(values):
    with pytest.raises(InputError, match="a speedup must lie in its interval, above 0"):
        Speedup(*values)


def test_the_file_says_what_was_measured(tmp_path):
    result = faster_onnx_from_model(tiny_bert(), tmp_path / "m.onnx", lambda fused, unfused: Speedup(1.05, 1.01, 1.08))
    props = {prop.key: prop.value for prop in onnx.load(result.export.path).metadata_props}
    assert props[FUSION_KEY] == str(result)
    assert result.export.bytes == result.export.path.stat().st_size
