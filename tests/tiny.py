"""Tiny models and a tiny tokenizer, built from configs: no network, no downloads.

Weights are scaled up: at BERT's default initialisation (std 0.02) a wrong attention hides under 1e-4.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

WORDS = "a the cat dog bird sat ran flew on under mat house tree good bad very not is was happy sad red blue big"
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCAB = {word: index for index, word in enumerate(SPECIALS + WORDS.split())}

DENSE_CLASSES = {
    "sequence-classification": BertForSequenceClassification,
    "question-answering": BertForQuestionAnswering,
    "token-classification": BertForTokenClassification,
    "masked-lm": BertForMaskedLM,
    "encoder": BertModel,
}


def tiny_config(**overrides: object) -> BertConfig:
    """3 layers, hidden 16, 4 heads of 4, FFN 24."""
    values = {
        "vocab_size": len(VOCAB),
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 40,
        "pad_token_id": 0,
    }
    return BertConfig(**(values | overrides))


def tiny_bert(
    head: str = "sequence-classification", seed: int = 0, std: float = 0.4, **overrides: object
) -> PreTrainedModel:
    """A dense BERT in eval mode whose every parameter, biases and LayerNorm included, is random and large."""
    kwargs = {"add_pooling_layer": overrides.pop("add_pooling_layer")} if "add_pooling_layer" in overrides else {}
    model = DENSE_CLASSES[head](tiny_config(**overrides), **kwargs).eval()
    randomise(model, seed, std)
    return model


def randomise(model: PreTrainedModel, seed: int, std: float = 0.4) -> None:
    """Fill every parameter from a seed: normal(0, std), LayerNorm weights around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype) * std
            parameter.copy_(1 + noise / 2 if name.endswith("LayerNorm.weight") else noise)


def tiny_batch(rows: int = 4, length: int = 9, seed: int = 0, padding: str = "right") -> dict[str, torch.Tensor]:
    """Random ids. ``padding``: none, right, left, holes (at random, at least one token kept)."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIALS), len(VOCAB), (rows, length), generator=generator)
    kept = torch.randint(1, length + 1, (rows, 1), generator=generator)
    kept[0] = length
    position = torch.arange(length).expand(rows, length)
    masks = {
        "none": torch.ones(rows, length, dtype=torch.bool),
        "right": position < kept,
        "left": position >= length - kept,
        "holes": (torch.rand(rows, length, generator=generator) < 0.6) | (position == 1),
    }
    types = torch.randint(0, 2, (rows, length), generator=generator)
    return {"input_ids": ids, "attention_mask": masks[padding].long(), "token_type_ids": types}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over a few words, with BERT's special tokens."""
    tokenizer = Tokenizer(models.WordPiece(VOCAB, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", VOCAB["[SEP]"]), ("[CLS]", VOCAB["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
