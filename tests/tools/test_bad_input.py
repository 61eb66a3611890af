"""Whatever a user gets wrong is one line, exit code 2, and leaves what is on disk alone."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.samples_file import write_samples
from pruning.arch import ArchSpec
from pruning.checkpoint import save_checkpoint
from tests.bench.fakes import fake_result
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import RUN


def refused(result):
    """The one line on standard error of a command that was refused."""
    code, out, err = result
    assert code == 2, (code, out, err)
    assert "Traceback" not in err
    *progress, message = err.splitlines()
    assert all(line.endswith(" ...") for line in progress)
    assert message.startswith("slimbert: ")
    return message


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def no_checkpoint(project):
    shutil.rmtree(project / "my-bert")
    (project / "my-bert").mkdir()


def truncated_weights(project):
    path = project / "my-bert" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def corrupted_header(project):
    path = project / "my-bert" / "model.safetensors"
    path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])


def pickle_weights(project):
    path = project / "my-bert" / "model.safetensors"
    torch.save(load_file(path), project / "my-bert" / "pytorch_model.bin")
    path.unlink()


def poisoned(value):
    def poison(project):
        path = project / "my-bert" / "model.safetensors"
        tensors = load_file(path)
        tensors["classifier.bias"][0] = value
        save_file(tensors, path, metadata={"format": "pt"})

    return poison


def edited_config(**values):
    def edit(project):
        path = project / "my-bert" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit


def another_head(project):
    save_checkpoint(tiny_bert("token-classification"), tiny_tokenizer(), project / "my-bert")


def another_tokenizer(project):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"word{i}" for i in range(200)])
    tokenizer.save_pretrained(project / "my-bert")


def reviews(text):
    def write(project):
        (project / "reviews.csv").write_text(text)

    return write


BAD_PROJECTS = {
    "no checkpoint": (no_checkpoint, "is not a checkpoint: it has no config.json"),
    "truncated": (truncated_weights, "truncated or corrupted"),
    "corrupted": (corrupted_header, "truncated or corrupted"),
    "pickle": (pickle_weights, "convert it: python -c"),
    "nan": (poisoned(float("nan")), "classifier.bias in .* holds 1 NaN or infinite"),
    "infinite": (poisoned(float("inf")), "holds 1 NaN or infinite"),
    "model type": (edited_config(model_type="gpt2"), "'gpt2' .* not supported; supported: bert, compact_bert"),
    "architecture": (edited_config(architectures=["BertForNextSentencePrediction"]), "not supported; supported: "),
    "head": (another_head, "needs a model with a sequence-classification head"),
    "tokenizer": (another_tokenizer, "229 tokens but the model has 29 word embeddings"),
    "no data": (reviews(""), "reviews.csv"),
    "only a header": (reviews("text,label\n"), "empty"),
    "no text column": (reviews("words,label\n" + "a cat,1\n" * 40), "column"),
    "unknown labels": (reviews("text,label\n" + "a cat,maybe\n" * 40), "does not know the labels 'maybe'"),
    "too few texts": (reviews("text,label\n" + "a cat,1\nthe dog,0\n" * 20), "at least 12 different texts; got 2"),
}


@pytest.mark.parametrize("name", BAD_PROJECTS)
def test_a_bad_project_is_refused(project, slimbert, name):
    spoil, message = BAD_PROJECTS[name]
    spoil(project)
    before = snapshot(project)
    err = refused(slimbert(*RUN, "--out", "out"))
    assert re.search(message, err)
    after = snapshot(project)
    assert {name: after[name] for name in before} == before


BAD_OPTIONS = {
    "speedup below 1": (("--speedup", "0.5"), "at least 1 and at most"),
    "speedup beyond reach": (("--speedup", "100000"), r"at most \d+, the largest that this model can reach"),
    "two targets": (("--speedup", "2", "--density", "0.5"), "exactly one of .* got --speedup and --density"),
    "no target": ((), "exactly one of .* got none"),
    "density": (("--density", "1.5"), "above 0 and at most 1"),
    "params": (("--params", "10"), "can not be pruned"),
    "bytes": (("--bytes", "10"), "can not be pruned"),
    "no shape file": (("--shape", "missing.json"), "cannot be read"),
    "runtime": (("--speedup", "2", "--runtime", "abacus"), "abacus"),
    "planned runtime": (("--speedup", "2", "--runtime", "tensorrt"), "tensorrt"),
    "batch": (("--speedup", "2", "--batch", "many"), "--batch takes numbers"),
    "sequence": (("--speedup", "2", "--seq", "512"), "40 positions"),
    "label column": (("--speedup", "2", "--label-column", "stars"), "stars"),
    "text column": (("--speedup", "2", "--text-column", "body"), "body"),
    "unknown option": (("--speedup", "2", "--turbo"), "--turbo"),
    "method": (("--speedup", "2", "--method", "wish"), "wish"),
    "calibration": (("--speedup", "2", "--calibration", "0"), "calibration"),
    "clock": (("--speedup", "2", "--threads", "2", "--clock", "thread"), "clock 'thread' cannot be used"),
    "no config file": (("--speedup", "2", "--config", "missing.yaml"), "cannot be read"),
    "task": (("--speedup", "2", "--task", "translation"), "there is no task 'translation'; there are"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_a_bad_option_is_refused_and_leaves_no_folder(project, slimbert, name):
    extra, message = BAD_OPTIONS[name]
    base = (
        "run",
        "my-bert",
        "--task",
        "text-classification",
        "--data",
        "reviews.csv",
        "--max-length",
        "16",
        "--out",
        "out",
    )
    seq = () if "--seq" in extra else ("--seq", "16")
    err = refused(slimbert(*base, *seq, *extra))
    assert re.search(message, err)
    assert not (project / "out").exists()


def test_a_shape_of_another_model_is_refused(project, slimbert):
    prune = ("prune", "my-bert", "--data", "reviews.csv", "--shape", "shape.json", "--out", "small")
    for shape, message in [
        (ArchSpec.from_lists(8, 4, [1, 1, 1], [1, 1, 1]), "hidden 8 and head_dim 4"),
        (ArchSpec.from_lists(16, 4, [1, 1], [1, 1]), "2 layers, the model 3"),
        (ArchSpec.from_lists(16, 4, [9, 1, 1], [1, 1, 1]), "wants 9 heads"),
    ]:
        (project / "shape.json").write_text(shape.to_json())
        assert message in refused(slimbert(*prune))
    (project / "shape.json").write_text("{}")
    assert "not an architecture" in refused(slimbert(*prune))


def test_config_files_are_checked(project, slimbert):
    for text, message in [("turbo: 1\n", "turbo"), ("- a\n", "must map option names"), ("a: [", "cannot be read")]:
        (project / "run.yaml").write_text(text)
        assert message in refused(slimbert(*RUN, "--config", "run.yaml", "--out", "out"))


def test_a_folder_with_something_else_is_left_alone(project, slimbert):
    (project / "out").mkdir()
    (project / "out" / "thesis.txt").write_text("do not lose me")
    commands = [
        (*RUN, "--out", "out"),
        ("prune", "my-bert", "--data", "reviews.csv", "--speedup", "2", "--out", "out"),
        ("export", "my-bert", "--out", "out"),
        ("finetune", "my-bert", "--task", "text-classification", "--data", "reviews.csv", "--out", "out"),
    ]
    for command in commands:
        refused(slimbert(*command))
        assert [path.name for path in (project / "out").iterdir()] == ["thesis.txt"]


def test_a_folder_with_another_run_is_left_alone(project, slimbert):
    assert slimbert(*RUN, "--out", "out")[0] == 0
    before = snapshot(project / "out")
    assert "already holds this run" in refused(slimbert(*RUN, "--out", "out"))
    assert "other settings (seed)" in refused(slimbert(*RUN, "--seed", "1", "--resume", "--out", "out"))
    assert slimbert(*RUN, "--out", "out", "--resume")[0] == 0
    assert snapshot(project / "out") == before


def test_a_full_disk_keeps_what_is_there(project, slimbert, monkeypatch):
    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/compact")

    monkeypatch.setattr(os, "fsync", no_space)
    before = snapshot(project)
    assert "no space left on the device" in refused(slimbert(*RUN, "--out", "out"))
    assert "no space left on the device" in refused(slimbert("export", "my-bert", "--out", "exported"))
    monkeypatch.undo()
    os.chdir(project)
    left = snapshot(project)
    assert {name: left[name] for name in before} == before
    assert not (project / "exported" / "onnx").exists()
    assert slimbert(*RUN, "--out", "out", "--resume")[0] == 0


def test_a_damaged_run_folder_is_named(project, slimbert):
    assert "is not a finished run" in refused(slimbert("verify", "my-bert"))
    slimbert(*RUN, "--out", "out")
    (project / "out" / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in refused(slimbert("verify", "out"))
    (project / "out" / ".slimbert" / "report.json").write_text("{")
    assert "report.json is damaged" in refused(slimbert(*RUN, "--resume", "--out", "out"))


def test_what_cannot_be_read_is_refused(project, slimbert):
    (project / "model.onnx").write_bytes(b"not a graph")
    evaluate = ("--task", "text-classification", "--data", "reviews.csv")
    assert "model.onnx" in refused(slimbert("inspect", "model.onnx"))
    assert "model.onnx" in refused(slimbert("eval", "model.onnx", *evaluate))
    assert "nothing" in refused(slimbert("inspect", "nowhere"))
    assert "nothing" in refused(slimbert("bench", "nowhere", "my-bert"))
    slimbert("export", "my-bert", "--out", "exported")
    shutil.copy(project / "exported" / "onnx" / "model.onnx", project / "model.onnx")
    assert "no config.json beside it" in refused(slimbert("eval", "model.onnx", *evaluate))
    assert "sequence-classification" in refused(
        slimbert("eval", "exported", "--task", "feature-extraction", "--data", "reviews.csv")
    )


def test_the_demo_names_what_is_missing(project, slimbert, monkeypatch):
    monkeypatch.setattr("tools.demo.find_spec", lambda name: None)
    assert "pip install --no-deps --require-hashes -r" in refused(slimbert("demo", "--out", "demo"))


BAD_BENCH = {
    "no candidate": (("my-bert",), "name at least one candidate"),
    "a cold cache on the wall clock": (("my-bert", "my-bert", "--cold-l2"), "measured on the gpu clock, not on 'wall'"),
    "a cold cache without a GPU": (
        ("my-bert", "my-bert", "--cold-l2", "--clock", "gpu"),
        "--cold-l2 needs a GPU, and ort-cpu uses none",
    ),
    "energy without a GPU": (("my-bert", "my-bert", "--energy"), "--energy needs a GPU, and ort-cpu uses none"),
    "energy without latency": (
        ("my-bert", "my-bert", "--energy", "--experiment", "load"),
        "--energy belongs to the latency experiment",
    ),
    "a compiler without PyTorch": (("my-bert", "my-bert", "--compile"), "--compile is for PyTorch. Add torch-cpu"),
    "a compiler without latency": (
        ("my-bert", "my-bert", "--runtime", "torch-cpu", "--compile", "--experiment", "load"),
        "--compile belongs to the latency experiment",
    ),
    "models and samples": (("my-bert", "my-bert", "--from", "bench.json"), "leave the models out"),
    "no samples": (("--from", "missing.json"), "missing.json cannot be read"),
    "foreign samples": (("--from", "my-bert/config.json"), "not a benchmark result of schema 2"),
    "broken samples": (("--from", "reviews.csv"), "not a samples file: invalid JSON"),
    "foreign file in the way": (("my-bert", "my-bert", "--json", "reviews.csv"), "would be overwritten"),
    "compare": (("compare", "reviews.csv", "reviews.csv"), "not a samples file"),
    "processes": (("my-bert", "my-bert", "--processes", "0"), "processes must be at least 1"),
    "calls": (("my-bert", "my-bert", "--calls", "1"), "calls per block >= 2"),
    "lengths": (("my-bert", "my-bert", "--lengths", "missing.csv"), "missing.csv"),
    "short ladder": (("--from", "samples.json", "--ladder"), "--ladder needs at least two candidates"),
    "published alone": (("--from", "samples.json", "--published", "reviews.csv"), "--published needs --metrics"),
    "metrics": (("--from", "samples.json", "--metrics", "reviews.csv"), "lacks the columns metric, model, value"),
    "bound precision": (
        ("my-bert@ort-cpu:fp7", "my-bert"),
        "precision must be one of fp32, fp16, bf16, int8; got 'fp7'",
    ),
    "bound runtime": (("my-bert@tensorrt", "my-bert"), "tensorrt"),
}


@pytest.mark.parametrize("name", BAD_BENCH)
def test_a_bad_benchmark_is_refused(project, slimbert, name):
    arguments, message = BAD_BENCH[name]
    write_samples(project / "samples.json", fake_result())
    before = snapshot(project)
    assert message in refused(slimbert("bench", *arguments))
    assert snapshot(project) == before


def test_texts_need_a_tokenizer(project, slimbert):
    slimbert("export", "my-bert", "--out", "exported", "--quiet")
    shutil.copy(project / "exported" / "onnx" / "model.onnx", project / "model.onnx")
    err = refused(slimbert("bench", "model.onnx", "model.onnx", "--data", "reviews.csv"))
    assert "no model has a tokenizer beside it" in err


def test_a_loaded_machine_is_warned_about_and_refused_if_strict(project, slimbert, monkeypatch):
    monkeypatch.setattr("bench.environment.OtherLoad.cores", lambda meter: 1_000.0)
    arguments = ("bench", "my-bert", "my-bert", "--blocks", "2", "--warmup-seconds", "0.001", "--seq", "16")
    assert "--strict refuses to measure" in refused(slimbert(*arguments, "--strict"))
    assert not (project / "bench.json").exists()
    code, _, err = slimbert(*arguments)
    assert (code, "warning: other programs keep 1000.0" in err) == (0, True)
    assert "--strict refuses the result" in refused(slimbert("bench", "--from", "bench.json", "--strict"))


BAD_EXPERIMENTS = {
    "unknown": (("--experiment", "warp"), "experiment 'warp' is unknown"),
    "none": (("--experiment", ","), "name at least one experiment"),
    "no rate": (("--experiment", "load", "--rates", "0"), "a rate of arrivals must be positive"),
    "a word for a rate": (("--experiment", "load", "--rates", "fast"), "got 'fast'"),
    "no time": (("--experiment", "load", "--load-seconds", "0"), "for more than 0 s"),
    "no batch": (("--experiment", "load", "--max-batch", "0"), "a queue needs a batch >= 1"),
    "no repeat": (("--experiment", "cold-start", "--repeats", "0"), "repeats and profiled calls >= 1"),
    "gate without latency": (
        ("--experiment", "throughput", "--largest-batch", "1", "--fail-under", "1", "--blocks", "2", "--seq", "8",
         "--warmup-seconds", "0.001"),
        "need latencies",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_EXPERIMENTS)
def test_a_bad_experiment_is_refused(project, slimbert, name):
    arguments, message = BAD_EXPERIMENTS[name]
    assert message in refused(slimbert("bench", "my-bert", "my-bert", *arguments))


@pytest.mark.parametrize("option", [("--max-length", "1"), ("--seed", "-1"), ("--threads", "0")])
def test_a_number_out_of_range_is_refused(project, slimbert, option):
    assert f"{option[0][2:].replace('-', '_')}: input should be greater than" in refused(
        slimbert(*RUN, *option, "--out", "out")
    )
    assert not (project / "out").exists()
