from __future__ import annotations

import ast
import re
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from exporter.deploy import write_deploy
from exporter.model_card import (
    PIPELINE_TAGS,
    CardLatency,
    CardMetric,
    DeployedFile,
    ModelCardFacts,
    ModelSize,
    files_from_deploy,
    license_from_folder,
    model_card_text,
)
from pruning.arch import ArchSpec
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import DENSE_CLASSES, tiny_tokenizer

DENSE = ModelSize(ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24]), 9000, 36_000)
SMALL = ModelSize(ArchSpec.from_lists(16, 4, [3, 0, 1], [24, 5, 0]), 4000, 16_000)
LATENCY = CardLatency("ort-cpu", 8, 128, "wall", 2, "fp32", 20.0, "int8", 8.0)
FULL = ModelCardFacts(
    name="guard, pruned",
    head="sequence-classification",
    size=SMALL,
    files=(DeployedFile("onnx/model.onnx", "fp32", 1_500_000),),
    source="owner/guard",
    base_model="owner/guard",
    license="apache-2.0",
    dense=DENSE,
    metric=CardMetric("accuracy", 0.91, 0.905, 872, "owner/data"),
    latencies=(LATENCY,),
    headline="2.50x faster (95 % interval 2.40 to 2.60).",
    machine="Some CPU | Linux",
)
BARE = ModelCardFacts("my-bert", "encoder", SMALL, (), "my-bert")


def front_matter(facts):
    return ModelCard(model_card_text(facts)).data


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


def test_the_hub_reads_what_is_known():
    data = front_matter(FULL)
    assert (data.base_model, data.license, data.pipeline_tag) == ("owner/guard", "apache-2.0", "text-classification")
    assert (data.library_name, data.metrics, data.model_name) == ("transformers", ["accuracy"], "guard, pruned")
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_name) == ("text-classification", "owner/data")
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.905)


def test_what_is_not_known_is_left_out():
    data = front_matter(BARE)
    known = {name for name, value in data.to_dict().items() if value is not None}
    assert known == {"library_name", "pipeline_tag", "tags"}
    text = model_card_text(BARE)
    assert not [word for word in ("None |", "Quality", "Latency", "pruned from", "license:") if word in text]


def test_the_body_states_size_quality_and_latency():
    found = rows(model_card_text(FULL))
    assert ["0", "3 of 4", "24 of 24"] in found
    assert ["1", "0 of 4", "5 of 24"] in found
    assert ["2", "1 of 4", "0 of 24"] in found
    assert ["parameters", "9,000", "4,000"] in found
    assert ["bytes of the weights in fp32", "36,000", "16,000"] in found
    assert ["`onnx/model.onnx`", "fp32", "1.5 MB"] in found
    assert ["dense", "0.9100"] in found
    assert ["this model", "0.9050"] in found
    assert ["ort-cpu", "8", "128", "wall", "2", "20.00 (fp32)", "8.00 (int8)", "2.50"] in found
    assert FULL.headline in model_card_text(FULL)


def test_foreign_text_stays_text():
    text = model_card_text(replace(FULL, source="<b>a|b</b>"))
    assert r"&lt;b&gt;a\|b&lt;/b&gt;" in text
    assert r"Some CPU \| Linux" in text


@pytest.mark.parametrize("head", DENSE_CLASSES)
def test_every_head_has_a_task_and_examples_that_parse(head):
    facts = replace(BARE, head=head)
    assert front_matter(facts).pipeline_tag == PIPELINE_TAGS[head]
    blocks = re.findall(r"```python\n(.*?)```", model_card_text(facts), re.DOTALL)
    assert len(blocks) == (3 if head == "encoder" else 2)
    for block in blocks:
        ast.parse(block)


def test_the_same_facts_give_the_same_text():
    assert model_card_text(FULL) == model_card_text(FULL)


def test_bad_facts_are_refused():
    with pytest.raises(InputError, match="no model card for the head 'pooler'"):
        replace(BARE, head="pooler")
    with pytest.raises(InputError, match="the dense model has 2 layers and this one 3"):
        replace(BARE, dense=ModelSize(ArchSpec.from_lists(16, 4, [4, 4], [24, 24]), 9000, 36_000))


def test_files_come_from_the_folder(tmp_path):
    export = write_deploy(tiny_compact("encoder", [2, 0, 1], [3, 0, 5]), tiny_tokenizer(), tmp_path / "deploy")
    file = DeployedFile("onnx/model.onnx", "fp32", export.bytes, "all in fp32")
    assert files_from_deploy(tmp_path / "deploy", {"onnx/model.onnx": "all in fp32"}) == (file,)
    assert files_from_deploy(tmp_path / "deploy", {}) == (replace(file, note=None),)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: mit\n---\n# model", "mit"),
        ("# no front matter", None),
        ("---\nlicense: [a, b]\n---\n", None),
        ("---\n- not\n- a mapping\n---\n", None),
        ("---\nlicense: 'unclosed\n---\n", None),
        (None, None),
    ],
)
def test_a_license_is_taken_only_where_it_is_stated(tmp_path, text, found):
    if text is not None:
        (tmp_path / "README.md").write_text(text)
    assert license_from_folder(tmp_path) == found
