import pytest
import torch

from pruning.checkpoint import load_for_finetuning
from pruning.errors import InputError
from pruning.introspect import arch_from_model, head_from_model
from tests.pruning.compact import largest_gap, pruned_bert
from tests.pruning.folders import BUILDS, edit_weights, refused, saved
from tests.tiny import tiny_batch

LABELS = {0: "bad", 1: "good"}


def labelled(tmp_path, kind="compact", head="sequence-classification"):
    model = BUILDS[kind](head, id2label=LABELS)
    return model, saved(tmp_path, model)


@pytest.mark.parametrize("kind", sorted(BUILDS))
@pytest.mark.parametrize("labels", [(), ("bad", "good")])
def test_a_fitting_head_is_kept(tmp_path, kind, labels):
    model, folder = labelled(tmp_path, kind)
    loaded = load_for_finetuning(folder, "sequence-classification", labels).model
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


def test_the_default_names_of_labels_count_as_names(tmp_path):
    model = pruned_bert()
    folder = saved(tmp_path, model)
    loaded = load_for_finetuning(folder, "sequence-classification", ["LABEL_0", "LABEL_1"]).model
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_more_than_ten_labels_keep_their_order(tmp_path):
    names = {index: f"class {index}" for index in range(12)}
    model = pruned_bert(id2label=names)
    folder = saved(tmp_path, model)
    loaded = load_for_finetuning(folder, "sequence-classification", list(names.values())).model
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


@pytest.mark.parametrize("kind", sorted(BUILDS))
@pytest.mark.parametrize("head", ["sequence-classification", "token-classification"])
@pytest.mark.parametrize("labels", [("good", "bad"), ("yes", "no"), ("a", "b", "c"), ("",)])
def test_other_labels_get_a_new_head_on_the_same_encoder(tmp_path, kind, head, labels):
    model, folder = labelled(tmp_path, kind)
    loaded = load_for_finetuning(folder, head, labels).model
    assert head_from_model(loaded) == head
    assert arch_from_model(loaded) == arch_from_model(model)
    assert loaded.config.id2label == dict(enumerate(labels))
    assert loaded.config.label2id == {label: index for index, label in enumerate(labels)}
    assert loaded.classifier.weight.shape == (len(labels), 16)
    assert loaded.classifier.weight.abs().max() < 0.1  # drawn with std 0.02; the old one has std 0.4
    assert torch.equal(loaded.classifier.bias, torch.zeros(len(labels)))
    states = [x.bert(**tiny_batch()).last_hidden_state for x in (model, loaded)]
    assert torch.equal(*states)


@pytest.mark.parametrize("labels", [("yes", "no"), ("a", "b", "c")])
def test_a_new_head_follows_the_global_seed(tmp_path, labels):
    folder = labelled(tmp_path)[1]
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(load_for_finetuning(folder, "sequence-classification", labels).model.classifier.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("kind", sorted(BUILDS))
@pytest.mark.parametrize("pooled", [True, False])
def test_a_bare_encoder_gets_a_head(tmp_path, kind, pooled):
    model = BUILDS[kind]("encoder", add_pooling_layer=pooled)
    loaded = load_for_finetuning(saved(tmp_path, model), "sequence-classification", ["a", "b", "c"]).model
    states = model(**tiny_batch()), loaded.bert(**tiny_batch())
    assert torch.equal(*(x.last_hidden_state for x in states))
    assert not pooled or torch.equal(*(x.pooler_output for x in states))
    assert torch.isfinite(loaded(**tiny_batch()).logits).all()


@pytest.mark.parametrize("head", ["question-answering", "masked-lm", "encoder"])
def test_a_head_without_labels_on_the_same_encoder(tmp_path, head):
    model, folder = labelled(tmp_path)
    loaded = load_for_finetuning(folder, head).model
    assert head_from_model(loaded) == head
    found = loaded(**tiny_batch(), output_hidden_states=True).hidden_states[-1]
    assert torch.equal(found, model.bert(**tiny_batch()).last_hidden_state)


@pytest.mark.parametrize("head", ["sequence-classification", "encoder"])
def test_a_missing_part_of_the_encoder_is_not_made_up(tmp_path, head):
    folder = labelled(tmp_path)[1]
    edit_weights(folder, lambda name, old: None if "word_embeddings" in name else old)
    refused(folder, "lacks 1 weights .*word_embeddings.weight", lambda name: load_for_finetuning(name, head))


@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
@pytest.mark.parametrize("head", ["sequence-classification", "token-classification", "encoder"])
def test_a_part_of_the_encoder_of_another_size_is_not_made_up(tmp_path, head, labels):
    folder = labelled(tmp_path)[1]
    edit_weights(folder, lambda name, old: old[:3] if name.endswith("layer.2.intermediate.dense.bias") else old)
    with pytest.raises(InputError, match=r"lacks 1 weights .*layer.2.intermediate.dense.bias|the weights do not fit"):
        load_for_finetuning(folder, head, labels)


def test_bad_input_is_refused_before_training_too(tmp_path):
    refused(tmp_path, "has no config.json", lambda name: load_for_finetuning(name, "encoder"))
