"""Deploy folders of tiny models with large weights, and what PyTorch answers for them."""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedModel

from pruning.batching import encode, predict_from_model
from tests.exporter.compact import tiny_compact
from tests.tiny import tiny_bert, tiny_tokenizer

TEXTS = ["the cat sat on the mat", "bird", "a very good dog was happy"]
LABELS = {0: "safe", 1: "odd", 2: "bad"}
KINDS = ("dense", "compact")


def model_of(kind: str, head: str) -> PreTrainedModel:
    """Dense, or compact with uneven layers and an empty one."""
    labels = {} if head in ("encoder", "question-answering") else {"id2label": LABELS}
    return tiny_bert(head, **labels) if kind == "dense" else tiny_compact(head, [3, 0, 1], [5, 0, 7], **labels)


def answers(model: PreTrainedModel) -> dict[str, Tensor]:
    """What PyTorch gives for `TEXTS`, padded on the right."""
    return predict_from_model(model)(encode(tiny_tokenizer(), TEXTS).padded([0, 1, 2]))
