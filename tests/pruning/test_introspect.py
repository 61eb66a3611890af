import pytest
from transformers import BertForNextSentencePrediction

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.introspect import arch_from_model, encoder_from_model, head_from_model, is_compact, layers_from_model
from tests.pruning.compact import HEADS, UNEVEN, tiny_compact
from tests.tiny import tiny_bert, tiny_config


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("build", [tiny_bert, tiny_compact])
def test_the_head_is_read_from_the_class(head, build):
    assert head_from_model(build(head)) == head


@pytest.mark.parametrize("head", HEADS)
def test_architecture_of_a_dense_model(head):
    assert arch_from_model(tiny_bert(head)) == ArchSpec.from_lists(16, 4, [4] * 3, [24] * 3)


@pytest.mark.parametrize("head", HEADS)
def test_architecture_of_a_compact_model(head):
    assert arch_from_model(tiny_compact(head)) == ArchSpec.from_lists(16, 4, *UNEVEN)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("build", [tiny_bert, tiny_compact])
def test_the_encoder_and_its_layers_are_found(head, build):
    model = build(head)
    encoder = encoder_from_model(model)
    assert (encoder is model) is (head == "encoder")
    assert layers_from_model(model) == list(encoder.encoder.layer)


def test_compact_models_know_that_they_are():
    assert is_compact(tiny_compact())
    assert not is_compact(tiny_bert())


def test_another_class_is_named_with_the_supported_ones():
    other = BertForNextSentencePrediction(tiny_config())
    with pytest.raises(
        InputError, match=r"BertForNextSentencePrediction is not supported; supported: BertFor.*Compact"
    ):
        head_from_model(other)


def test_a_subclass_may_compute_something_else_and_is_not_supported():
    class Mine(type(tiny_bert())):
        pass

    with pytest.raises(InputError, match="Mine is not supported"):
        head_from_model(Mine(tiny_config()))
