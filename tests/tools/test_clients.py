"""Model cards, Triton repositories and pushes, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard

from exporter.describe import describe_onnx
from tests.tools.conftest import RUN
from tests.tools.test_bad_input import refused
from tests.tools.test_exporting import wide  # noqa: F401  # a fixture
from tools import pushing, triton_export

TRITON = ("export", "my-bert", "--to", "triton", "--out", "repository")


@pytest.fixture
def pushed(monkeypatch):
    """What would have gone to the hub: (files, repository, private)."""
    calls = []

    def push(folder, repo, *, private):
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        calls.append((files, repo, private))
        return f"https://hub.example/{repo}"

    monkeypatch.setattr(pushing, "push_folder", push)
    monkeypatch.setattr(pushing, "check_push", lambda repo: None)
    return calls


def test_the_card_of_a_run_says_what_its_report_says(project, slimbert):
    (project / "my-bert" / "README.md").write_text("---\nlicense: mit\n---\n")
    assert slimbert(*RUN, "--out", "out", "--quiet")[0] == 0
    report = json.loads((project / "out" / "report.json").read_text())
    card = ModelCard.load(project / "out" / "deploy" / "README.md")
    assert (card.data.license, card.data.get("base_model")) == ("mit", None)
    assert card.data.pipeline_tag == "text-classification"
    (result,) = card.data.eval_results
    metric = report["candidate"]["metric"]
    assert (result.metric_type, result.metric_value) == (metric["name"], metric["value"])
    assert result.dataset_name == "reviews.csv"
    before, after = report["baseline"], report["candidate"]
    assert f"| parameters | {before['params']:,} | {after['params']:,} |" in card.text
    for index, (dense, layer) in enumerate(zip(before["arch"]["layers"], after["arch"]["layers"], strict=True)):
        assert f"| {index} | {layer['heads']} of {dense['heads']} | {layer['ffn']} of {dense['ffn']} |" in card.text
    milliseconds = [f"{row['latency'][0]['p50_ms']:.2f} (fp32)" for row in (before, after)]
    assert " | ".join(milliseconds) in card.text
    assert report["environment"]["cpu"] in card.text
    assert str(project) not in card.content


def test_the_manifest_covers_the_card(project, slimbert):
    assert slimbert(*RUN, "--out", "out", "--quiet")[0] == 0
    with (project / "out" / "deploy" / "README.md").open("a") as file:
        file.write("even faster")
    code, out, _ = slimbert("verify", "out")
    assert code == 1
    assert "deploy/README.md: changed" in out


def test_the_card_of_an_export_claims_nothing_that_was_not_measured(project, slimbert):
    assert slimbert("export", "my-bert", "--out", "deploy")[0] == 0
    card = ModelCard.load(project / "deploy" / "README.md")
    known = {name for name, value in card.data.to_dict().items() if value is not None}
    assert known == {"library_name", "pipeline_tag", "tags"}
    assert not [word for word in ("Latency", "Quality", "pruned", "None |") if word in card.text]


@pytest.mark.parametrize(("dtype", "kind"), [("fp32", "KIND_AUTO"), ("fp16", "KIND_AUTO"), ("int8", "KIND_CPU")])
def test_triton_gets_every_precision(wide, slimbert, dtype, kind):  # noqa: F811
    arguments = ("export", "wide", "--to", "triton", "--dtype", dtype, "--data", "reviews.csv", "--out", "repository")
    code, out, err = slimbert(*arguments, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert (facts["path"], facts["dtype"], facts["backend"]) == ("wide/1/model.onnx", dtype, "onnxruntime")
    assert {"fp32": "None", "fp16": "all in fp16", "int8": "dynamic int8 in"}[dtype] in str(facts["note"])
    assert f"kind: {kind}" in (wide / "repository" / "wide" / "config.pbtxt").read_text()
    weights = describe_onnx(wide / "repository" / facts["path"]).precisions
    assert {"fp32": "FLOAT", "fp16": "FLOAT16", "int8": "INT8"}[dtype] in weights


def test_triton_takes_a_name_and_a_dialect(project, slimbert):
    assert slimbert(*TRITON, "--name", "guard", "--dialect", "ort-cuda")[0] == 0
    assert "kind: KIND_GPU" in (project / "repository" / "guard" / "config.pbtxt").read_text()


def test_triton_takes_an_engine(project, slimbert, monkeypatch):
    def build(source, target, options):
        assert describe_onnx(source).form.dtype == "fp16"
        target.write_bytes(b"engine")
        profiles = [SimpleNamespace(batch=(1, 1, 1)), SimpleNamespace(batch=(1, 8, 16))]
        return SimpleNamespace(path=Path(target), record=SimpleNamespace(profiles=profiles))

    monkeypatch.setattr(triton_export, "engine_from_onnx", build)
    code, out, _ = slimbert(*TRITON, "--backend", "tensorrt", "--dtype", "fp16", "--json")
    assert code == 0
    assert json.loads(out)["max_batch"] == 16
    assert (project / "repository" / "my-bert" / "1" / "model.plan").read_bytes() == b"engine"
    config = (project / "repository" / "my-bert" / "config.pbtxt").read_text()
    assert 'profile: [ "0", "1" ]' in config
    assert "max_batch_size: 16" in config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "../up"), "is not a name for a Triton model"),
        (("--backend", "tensorrt", "--dialect", "ort-cpu"), "TensorRT parses the standard dialect only"),
        (("--dtype", "int8"), "pass --data"),
        (("--dtype", "int8", "--dialect", "ort-cuda"), "dynamic int8 does not run on ort-cuda"),
        (("--private",), "pass --push"),
    ],
)
def test_triton_refuses_what_it_cannot_do(project, slimbert, arguments, message):
    assert message in refused(slimbert(*TRITON, *arguments))
    assert not (project / "repository").exists()


def test_options_of_triton_are_for_triton(project, slimbert):
    assert "--backend and --name are for --to triton" in refused(
        slimbert("export", "my-bert", "--name", "guard", "--out", "deploy")
    )


def test_an_export_is_pushed_when_it_is_complete(project, slimbert, pushed):
    code, out, _ = slimbert("export", "my-bert", "--out", "deploy", "--push", "owner/guard", "--private", "--json")
    assert code == 0
    ((files, repo, private),) = pushed
    assert {"README.md", "config.json", "tokenizer.json", "onnx/model.onnx"} <= files
    assert (repo, private) == ("owner/guard", True)
    assert json.loads(out)["pushed"] == "https://hub.example/owner/guard"


def test_a_run_is_pushed_once_it_is_verified(project, slimbert, pushed):
    code, out, _ = slimbert(*RUN, "--out", "out", "--push", "owner/guard")
    assert code == 0
    assert "pushed to https://hub.example/owner/guard" in out
    ((files, _, private),) = pushed
    assert {"README.md", "onnx/model.onnx"} <= files
    assert private is None
    (project / "out" / "deploy" / "README.md").write_text("even faster")
    message = refused(slimbert(*RUN, "--out", "out", "--resume", "--push", "owner/guard", "--quiet"))
    assert "deploy/README.md: changed" in message
    assert len(pushed) == 1


def test_without_a_token_nothing_is_started(project, slimbert, monkeypatch):
    monkeypatch.setattr("exporter.hub.get_token", lambda: None)
    for command in (("export", "my-bert"), RUN):
        assert "--push needs a token" in refused(slimbert(*command, "--out", "out", "--push", "owner/guard"))
        assert not (project / "out").exists()
