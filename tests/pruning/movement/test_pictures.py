"""Pictures show the masks: a cell per block, or the kept share of several."""

from __future__ import annotations

import torch

from pruning.movement.layers import masks_of
from pruning.movement.names import Variant
from pruning.movement.pictures import MOST_CELLS, layer_pictures, picture_of
from tests.pruning.movement.models import pruner_of, spread_scores
from tests.tiny import tiny_bert


def test_a_cell_per_block_and_neurons_as_rows_then_columns():
    pruner = pruner_of(Variant.HYBRID)
    spread_scores(pruner)
    pruner.step(20)
    layer = pruner.layers[0]
    pictures = {x["name"]: x for x in layer_pictures(layer)}
    assert list(pictures) == ["query", "key", "value", "output", "FFN first", "FFN second"]
    query = layer.attention[0]
    assert torch.tensor(pictures["query"]["kept"]).bool().tolist() == query.mask.keep.tolist()
    neurons = layer.ffn[0].mask.keep[:, 0].float()
    assert torch.tensor(pictures["FFN first"]["kept"])[:, 0].tolist() == neurons.tolist()
    assert torch.tensor(pictures["FFN second"]["kept"])[0].tolist() == neurons.tolist()
    assert (pictures["FFN second"]["rows"], pictures["FFN second"]["columns"]) == (16, 24)


def test_many_blocks_share_a_cell():
    pruner = pruner_of(Variant.UNSTRUCTURED, model=tiny_bert(hidden_size=64, intermediate_size=68))
    for mask in masks_of(pruner.layers):
        mask.decide(torch.rand(mask.keep.shape) < 0.3)
    linear = pruner.layers[0].ffn[0]  # 68 x 64
    picture = picture_of("first", linear)
    kept = torch.tensor(picture.kept)
    assert kept.shape == (17, MOST_CELLS)
    expected = linear.mask.keep.float().view(17, 4, MOST_CELLS, 2).mean(dim=(1, 3))
    torch.testing.assert_close(kept, expected, atol=6e-4, rtol=0)
