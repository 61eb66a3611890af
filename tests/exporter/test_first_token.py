from __future__ import annotations

import pytest
import torch

from exporter.graph import encoder_spec, graph_from_model
from exporter.metadata import metadata_from_props
from exporter.options import Dialect, GraphOptions
from exporter.parity import parity_batches
from tests.exporter.compact import SHAPES, predict_from_graph, tiny_compact
from tests.tiny import DENSE_CLASSES, VOCAB, tiny_bert

CASES = parity_batches(len(VOCAB), 40, seed=1)
CLASSIFIER = "sequence-classification"


def node_names(model, **options):
    return [node.name for node in graph_from_model(model, options=GraphOptions(**options)).graph]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dialect", Dialect)
def test_first_token_alone_gives_the_same_logits_as_all_tokens(shape, dialect):
    model = tiny_compact(CLASSIFIER, *SHAPES[shape])
    short, full = (
        predict_from_graph(model, options=GraphOptions(dialect=dialect, first_token=x)) for x in (True, False)
    )
    for batch in CASES.values():
        torch.testing.assert_close(short(batch)["logits"], full(batch)["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("heads", "layer"), [([2, 1, 3], 2), ([2, 3, 0], 1), ([1, 0, 0], 0), ([0, 0, 0], 0), ([0, 2, 0], 1)]
)
def test_only_the_first_token_matters_from_the_last_layer_with_heads_on(heads, layer):
    model = tiny_compact(CLASSIFIER, heads, [4, 4, 4])
    assert encoder_spec(model, GraphOptions(first_token=True)).first_token_layer == layer
    assert [name for name in node_names(model, first_token=True) if "first_token/Slice" in name] == [
        f"bert.encoder.layer.{layer}.first_token/Slice"
    ]


@pytest.mark.parametrize("dialect", ["ort-cpu", "ort-cuda"])
def test_the_last_attention_is_still_one_operator(dialect):
    names = node_names(tiny_bert(), dialect=dialect, first_token=True)
    assert [name for name in names if name.endswith("Attention")] == [
        "bert.encoder.layer.0.attention.self/Attention",
        "bert.encoder.layer.1.attention.self/Attention",
        "bert.encoder.layer.2.attention.self/MultiHeadAttention",
    ]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("head", sorted(DENSE_CLASSES.keys() - {CLASSIFIER}))
def test_heads_that_return_tokens_compute_all_of_them(head, dialect):
    assert not [
        name for name in node_names(tiny_bert(head), dialect=dialect, first_token=True) if "first_token" in name
    ]
    assert not recorded(tiny_bert(head), dialect=dialect, first_token=True)


def test_metadata_say_whether_only_the_first_token_is_computed():
    assert recorded(tiny_bert())
    assert not recorded(tiny_bert(), first_token=False)


def recorded(model, **options):
    graph = graph_from_model(model, options=GraphOptions(**options))
    return metadata_from_props(graph.metadata_props).form.first_token
