"""Importing this module teaches the Auto classes of transformers to load compact checkpoints.

After ``import pruning.auto``, ``AutoModelForSequenceClassification.from_pretrained(folder)`` and ``pipeline`` work on a
compact checkpoint as on any other, without remote code.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertTokenizerFast,
)

from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES

AUTO_CLASSES = {
    "sequence-classification": AutoModelForSequenceClassification,
    "question-answering": AutoModelForQuestionAnswering,
    "token-classification": AutoModelForTokenClassification,
    "masked-lm": AutoModelForMaskedLM,
    "encoder": AutoModel,
}

AutoConfig.register(CompactBertConfig.model_type, CompactBertConfig, exist_ok=True)
AutoTokenizer.register(CompactBertConfig, fast_tokenizer_class=BertTokenizerFast, exist_ok=True)
for _head, _auto_class in AUTO_CLASSES.items():
    _auto_class.register(CompactBertConfig, HEAD_CLASSES[_head], exist_ok=True)
