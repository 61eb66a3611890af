"""Tables in int8: probes are quantised as an exported artifact is, and measured by the same code."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from bench.table import TableSettings, identity_from_model, measure_table
from bench.table_int8 import quantise_probe
from exporter.int8.dynamic import int8_from_onnx
from exporter.int8.source import ProductKind
from exporter.options import Dialect, GraphOptions
from pruning.errors import InputError
from tests.exporter.int8.files import BATCHES, loose, write_float
from tests.tiny import tiny_bert

FUSED = GraphOptions(dialect=Dialect.ORT_CPU)


def constants(file: Path) -> dict[str, list[object]]:
    return {x.name: numpy_helper.to_array(x).tolist() for x in onnx.load(file).graph.initializer}


@pytest.mark.parametrize("options", [None, FUSED], ids=["standard", "fused"])
def test_probes_have_the_products_and_the_bits_of_the_artifact(tmp_path: Path, options: GraphOptions | None) -> None:
    probe = write_float(tmp_path / "probe.onnx", options=options)
    int8_from_onnx(probe, tmp_path / "artifact.onnx", loose(), BATCHES)
    quantise_probe(probe, tuple(ProductKind))
    assert list(onnx.load(probe).graph.node) == list(onnx.load(tmp_path / "artifact.onnx").graph.node)
    assert constants(probe) == constants(tmp_path / "artifact.onnx")


def test_kinds_that_an_artifact_leaves_out_stay_in_fp32(tmp_path: Path) -> None:
    probe = write_float(tmp_path / "probe.onnx")
    int8_from_onnx(probe, tmp_path / "artifact.onnx", loose(kinds=frozenset({ProductKind.FFN_UP})), BATCHES)
    quantise_probe(probe, (ProductKind.FFN_UP,))
    assert constants(probe) == constants(tmp_path / "artifact.onnx")


def test_a_probe_without_products_stays_as_it_is(tmp_path: Path) -> None:
    probe = write_float(tmp_path / "probe.onnx")
    before = probe.read_bytes()
    quantise_probe(probe, (ProductKind.HEAD,))
    assert probe.read_bytes() == before


def test_a_table_in_int8_is_measured_and_names_its_products() -> None:
    settings = TableSettings(dtype="int8", batch=2, seq=8, blocks=1, int8_kinds=(ProductKind.FFN_DOWN, ProductKind.QKV))
    table = measure_table(tiny_bert(), settings)
    assert (table.identity.dtype, table.identity.dialect) == ("int8", "ort-cpu")
    assert table.identity.int8_kinds == ("qkv", "ffn-down")
    assert len(table.checks) == 4
    assert "--dtype int8 --dialect ort-cpu --int8-kinds qkv,ffn-down" in table.identity.command
    every = identity_from_model(tiny_bert(), TableSettings(dtype="int8", batch=2, seq=8))
    assert every.int8_kinds == tuple(ProductKind)
    with pytest.raises(InputError, match="for another int8_kinds"):
        table.require_identity(every)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runtime": "torch-cpu"}, "in int8 are for ort-cpu, .* got torch-cpu, dialect None"),
        ({"runtime": "openvino"}, "in int8 are for ort-cpu"),
        ({"dialect": Dialect.ORT_CUDA}, "got ort-cpu, dialect ort-cuda"),
        ({"int8_kinds": ()}, "name at least one kind of product for int8: qkv, attention-output"),
    ],
)
def test_int8_that_cannot_be_made_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableSettings(dtype="int8", **settings)
