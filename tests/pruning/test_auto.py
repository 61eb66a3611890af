import pytest
from transformers import AutoConfig, AutoTokenizer, pipeline

from pruning.auto import AUTO_CLASSES
from pruning.checkpoint import save_checkpoint
from pruning.config import CompactBertConfig
from pruning.heads import HEAD_CLASSES
from pruning.introspect import arch_from_model
from tests.pruning.compact import HEADS, largest_gap, tiny_compact
from tests.tiny import tiny_batch, tiny_tokenizer


@pytest.mark.parametrize("head", HEADS)
def test_from_pretrained_is_bit_equal_architecture_included(head, tmp_path):
    model = tiny_compact(head)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact")
    loaded = AUTO_CLASSES[head].from_pretrained(tmp_path / "compact")
    assert type(loaded) is HEAD_CLASSES[head]
    assert arch_from_model(loaded) == arch_from_model(model)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


def test_an_encoder_without_pooler_stays_without(tmp_path):
    model = tiny_compact("encoder", add_pooling_layer=False)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact")
    assert AUTO_CLASSES["encoder"].from_pretrained(tmp_path / "compact").pooler is None


def test_the_bare_encoder_comes_out_of_a_task_model(tmp_path):
    model = tiny_compact("sequence-classification")
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact")
    loaded = AUTO_CLASSES["encoder"].from_pretrained(tmp_path / "compact")
    assert largest_gap(model.bert(**tiny_batch()), loaded(**tiny_batch())) == 0


@pytest.mark.parametrize("head", HEADS)
def test_from_config_builds_the_class(head):
    config = tiny_compact(head).config
    assert type(AUTO_CLASSES[head].from_config(config)) is HEAD_CLASSES[head]


def test_configuration_and_tokenizer_are_found(tmp_path):
    save_checkpoint(tiny_compact(), tiny_tokenizer(), tmp_path / "compact")
    assert type(AutoConfig.from_pretrained(tmp_path / "compact")) is CompactBertConfig
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "compact")
    assert tokenizer("the cat sat").input_ids == tiny_tokenizer()("the cat sat").input_ids


def test_pipeline_answers(tmp_path):
    model = tiny_compact(id2label={0: "bad", 1: "good"})
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact")
    classify = pipeline("text-classification", model=str(tmp_path / "compact"), device="cpu")
    (answer,) = classify("the happy cat sat on the mat")
    encoded = tiny_tokenizer()("the happy cat sat on the mat", return_tensors="pt")
    probabilities = model(**encoded).logits.softmax(-1)[0].detach()
    assert answer["label"] == ("bad", "good")[int(probabilities.argmax())]
    assert answer["score"] == pytest.approx(float(probabilities.max()), rel=1e-5)


def test_pipeline_fills_a_mask(tmp_path):
    save_checkpoint(tiny_compact("masked-lm"), tiny_tokenizer(), tmp_path / "compact")
    answers = pipeline("fill-mask", model=str(tmp_path / "compact"), device="cpu")("the [MASK] sat on the mat")
    assert len(answers) == 5
