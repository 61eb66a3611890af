"""Names of nodes and modules, and where they belong."""

from __future__ import annotations

import pytest
import torch

from bench.profiling.places import NOWHERE, Part, Place, operator_from_name, place_from_name, place_from_names
from exporter.graph import graph_from_model
from exporter.options import Dialect, GraphOptions
from tests.tiny import DENSE_CLASSES, tiny_bert

LAYER = "bert.encoder.layer.11"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (f"{LAYER}.attention.self.query/MatMul", Place(Part.ATTENTION, 11)),
        (f"{LAYER}.attention.self/Softmax", Place(Part.ATTENTION, 11)),
        (f"{LAYER}.attention.output.dense/Add", Place(Part.ATTENTION, 11)),
        (f"{LAYER}.first_token/Slice", Place(Part.ATTENTION, 11)),
        (f"{LAYER}.attention.output.residual/Add", Place(Part.NORMS, 11)),
        (f"{LAYER}.attention.output.LayerNorm/LayerNormalization", Place(Part.NORMS, 11)),
        (f"{LAYER}.intermediate.dense/Gelu", Place(Part.FFN, 11)),
        (f"{LAYER}.intermediate.intermediate_act_fn", Place(Part.FFN, 11)),
        (f"{LAYER}.output.dense/MatMul", Place(Part.FFN, 11)),
        (f"{LAYER}.output/Add", Place(Part.NORMS, 11)),
        (f"{LAYER}.output.LayerNorm", Place(Part.NORMS, 11)),
        (f"{LAYER}/Dropout", Place(Part.OTHER, 11)),
        ("encoder.layer.0.attention", Place(Part.ATTENTION, 0)),
        ("bert.embeddings.LayerNorm/LayerNormalization", Place(Part.EMBEDDINGS)),
        ("attention_mask/Cast", Place(Part.ATTENTION)),
        ("bert.pooler.dense/MatMul", Place(Part.HEAD)),
        ("cls.predictions.decoder/Add", Place(Part.HEAD)),
        ("MatMul_17", NOWHERE),
        ("layer", NOWHERE),
        ("", NOWHERE),
    ],
)
def test_a_name_says_where_the_work_belongs(name: str, place: Place) -> None:
    assert place_from_name(name) == place


def test_fused_work_belongs_with_its_first_product() -> None:
    names = ("kernel_7", f"{LAYER}.attention.output.residual/Add", f"{LAYER}.intermediate.dense/MatMul")
    assert place_from_names(names) == Place(Part.FFN, 11)
    assert place_from_names(names[:2]) == Place(Part.NORMS, 11)
    assert place_from_names(names[:1]) == NOWHERE


def test_the_operator_follows_the_slash() -> None:
    assert operator_from_name("classifier/MatMul") == "MatMul"
    assert operator_from_name("MatMul") == "MatMul"


@pytest.mark.parametrize("head", DENSE_CLASSES)
@pytest.mark.parametrize("dialect", Dialect)
def test_every_node_that_we_write_has_a_place(head: str, dialect: Dialect) -> None:
    graph = graph_from_model(tiny_bert(head), options=GraphOptions(dialect=dialect)).graph
    lost = [node.name for node in graph if place_from_name(node.name or "") == NOWHERE]
    assert lost == []
    layers = {place_from_name(node.name or "").layer for node in graph} - {None}
    assert layers == {0, 1, 2}


def test_every_module_of_pytorch_that_computes_has_a_place() -> None:
    model = tiny_bert()
    leaves = [
        name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm)
    ]
    assert [name for name in leaves if place_from_name(name).part is Part.OTHER] == []
