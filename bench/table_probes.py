"""Models that tell what one sublayer costs: nothing in them but that sublayer, chained, and what every model has.

They are ordinary compact checkpoints with random weights, so that every runtime exports and runs them as it does the
model that is deployed. Letters: H heads, F ffn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import BertTokenizerFast, PretrainedConfig, PreTrainedModel

from pruning.arch import ArchSpec, LayerSpec
from pruning.checkpoint import save_checkpoint
from pruning.config import LAYER_NORM, CompactBertConfig
from pruning.heads import HEAD_CLASSES

CHAIN = 4
"""Equal sublayers in a row: launch, embeddings and head weigh less, and caches behave as in a whole model."""
VOCABULARY = 256
WIDTH_SHARES = (0.02, 0.04, 0.08, 0.125, 0.17, 0.25, 0.33, 0.42, 0.5, 0.625, 0.75, 0.875, 1.0)
WIDTH_STEP = 8
CLASSIFIER, ENCODER = "sequence-classification", "encoder"
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Probe:
    """A model to time: its task head, the size of each layer, and the rows of its word embeddings."""

    head: str
    layers: tuple[LayerSpec, ...]
    vocabulary: int = VOCABULARY


@dataclass(frozen=True)
class RowProbes:
    """A row of the table: the probe of the empty sublayer and those of ``sizes``, each holding it ``chain`` times."""

    base: Probe
    sizes: tuple[int, ...]
    probes: tuple[Probe, ...]
    chain: int


def ffn_widths(ffn: int) -> tuple[int, ...]:
    """About 14 widths up to ``ffn``, closer together where they are small; 0 left out."""
    wanted = (round(share * ffn / WIDTH_STEP) * WIDTH_STEP for share in WIDTH_SHARES)
    return tuple(sorted({width for width in wanted if 0 < width < ffn} | {ffn}))


def row_probes(heads: int, ffn: int, *, first_token: bool) -> dict[str, RowProbes]:
    """Probes of every row of the table, by name.

    Args:
        heads: most heads of a layer.
        ffn: most neurons of a layer.
        first_token: whether the last layer has rows of its own.
    """
    head_sizes, widths = tuple(range(1, heads + 1)), ffn_widths(ffn)
    empty = LayerSpec(0, 0)
    rows = {
        "heads": _row(ENCODER, empty, head_sizes, [LayerSpec(x, 0) for x in head_sizes], CHAIN),
        "ffn": _row(ENCODER, empty, widths, [LayerSpec(0, x) for x in widths], CHAIN),
    }
    if first_token:  # the last layer with heads is the one that serves the first token alone: there is only one
        one_head = LayerSpec(1, 0)
        rows["last_heads"] = _row(CLASSIFIER, empty, head_sizes, [LayerSpec(x, 0) for x in head_sizes], 1)
        rows["last_ffn"] = _row(CLASSIFIER, one_head, widths, [LayerSpec(1, x) for x in widths], 1)
    return rows


def floor_shape(arch: ArchSpec, *, first_token: bool) -> ArchSpec:
    """Empty sublayers; one head keeps the tokens of the lower layers alive for the first token's sake."""
    heads = [0] * len(arch.layers)
    heads[-1] = int(first_token)
    return ArchSpec.from_lists(arch.hidden, arch.head_dim, heads, [0] * len(arch.layers))


def random_shapes(arch: ArchSpec, count: int, seed: int) -> list[ArchSpec]:
    """Whole shapes to test on; the last layer keeps a head, without which a first-token model is another one."""
    generator = random.Random(seed)
    shapes = []
    for _ in range(count):
        heads = [generator.randint(0, x.heads) for x in arch.layers[:-1]]
        heads.append(generator.randint(min(1, arch.heads[-1]), arch.heads[-1]))
        ffn = [generator.randint(0, x.ffn // WIDTH_STEP) * WIDTH_STEP for x in arch.layers]
        shapes.append(ArchSpec.from_lists(arch.hidden, arch.head_dim, heads, ffn))
    return shapes


def probe_model(probe: Probe, config: PretrainedConfig, head_dim: int) -> PreTrainedModel:
    """The probe with random weights, computing as ``config`` says."""
    fields = {name: getattr(config, name) for name in ("hidden_size", "hidden_act", "layer_norm_eps")}
    fields["norm_type"] = getattr(config, "norm_type", LAYER_NORM)  # a dense configuration has no such field
    sizes = CompactBertConfig(
        **fields,
        vocab_size=probe.vocabulary,
        num_hidden_layers=len(probe.layers),
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        layer_num_heads=[x.heads for x in probe.layers],
        layer_intermediate_sizes=[x.ffn for x in probe.layers],
        head_dim=head_dim,
        max_position_embeddings=config.max_position_embeddings,
        type_vocab_size=config.type_vocab_size,
        num_labels=config.num_labels,
        add_pooling_layer=False,
    )
    return HEAD_CLASSES[probe.head](sizes).eval()


def save_probe(model: PreTrainedModel, folder: Path) -> None:
    """Write the probe as a checkpoint, with a tokenizer of made-up words."""
    words = [f"w{index}" for index in range(model.config.vocab_size - len(SPECIAL_TOKENS))]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate((*SPECIAL_TOKENS, *words))})
    save_checkpoint(model, tokenizer, folder)


def _row(head: str, base: LayerSpec, sizes: tuple[int, ...], layers: Sequence[LayerSpec], chain: int) -> RowProbes:
    probes = tuple(Probe(head, (layer,) * chain) for layer in layers)
    return RowProbes(Probe(head, (base,) * chain), sizes, probes, chain)
