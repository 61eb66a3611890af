"""A speedup that is requested in int8: table, rounds, deployed file and report are of that precision."""

import json
from dataclasses import replace

import onnx
import pytest

import tools.int8_graphs
import tools.latency_tables
import tools.measured_pruning
from bench.runners.base import Precision
from bench.table_samples import TableSamples, samples_path
from exporter.fastest import Speedup
from exporter.int8.check import Int8Agreement, Int8Error, Int8Tolerance
from exporter.int8.source import ProductKind
from exporter.int8.worth import KindWorth
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import QUICK
from tests.tools.tables import quiet_table
from tools.latency_tables import measure_usable
from tools.run_table import table_settings
from tools.settings import ExportSettings, PriceSettings, PruneSettings, RunSettings, TargetSettings

MODEL = ("run", "my-bert", "--task", "text-classification", "--data", "reviews.csv", *QUICK, "--out", "out")
INT8 = (*MODEL, "--dtype", "int8", "--batch", "2,1", "--speedup", "1.5")
INT8_FILE = "deploy/onnx/model_quantized.onnx"
KINDS = ("qkv", "ffn-up", "ffn-down")


@pytest.fixture
def project(project):
    """With a decision that no rounding flips."""
    model = tiny_bert()
    model.classifier.bias.data[1] += 3
    save_checkpoint(model, tiny_tokenizer(), project / "my-bert")
    return project


def int8_table(project, **identity):
    """For what ``INT8`` measures."""
    asked = {"dtype": "int8", "dialect": "standard", "batch": 2, "int8_kinds": KINDS}
    return quiet_table(project, **(asked | identity))


@pytest.fixture
def measured(monkeypatch):
    """Rounds are exported and timed, but what a tiny model's timing says is noise: every request is reached."""
    really, files = tools.measured_pruning.measured_speedup, []

    def timed(work, folder):
        files.append(really(work, folder))
        return Speedup(1.5, 1.49, 1.51)

    monkeypatch.setattr(tools.measured_pruning, "measured_speedup", timed)
    return files


def products_in_int8(file):
    return sum(node.op_type == "MatMulInteger" for node in onnx.load(file).graph.node)


def test_everything_is_of_the_precision_that_is_named_first(slimbert, project, measured):
    int8_table(project).save(project / "table.json")
    code, _, error = slimbert(*INT8, "--latency-table", "table.json")
    assert (code, len(measured)) == (0, 1), error
    assert "round 1: asking for 1.500x on ort-cpu int8, batch 2, sequence 16" in error
    report = json.loads((project / "out/report.json").read_text())
    assert report["speed_target"] == {"runtime": "ort-cpu", "dtype": "int8", "batch": 2, "seq": 16}
    assert (report["measured_speedup"]["dtype"], report["measured_speedup"]["batch"]) == ("int8", 2)
    assert {row["dtype"] for side in ("baseline", "candidate") for row in report[side]["latency"]} == {"int8"}
    artifacts = {x["path"]: x for x in report["artifacts"]}
    assert report["candidate"]["metric"] == artifacts[INT8_FILE]["metric"]
    assert "in int8 as in the latency table: qkv, ffn-up, ffn-down." in artifacts[INT8_FILE]["note"]
    assert not any("attention.output" in name for name in artifacts[INT8_FILE]["quantised"])
    for name in ("report.md", "report.html"):
        assert "1.5x was requested on ort-cpu int8, batch 2, sequence 16." in (project / "out" / name).read_text()


def test_without_a_table_the_kinds_are_decided_once(slimbert, project, measured, monkeypatch):
    """The dense model is timed kind by kind before the table is measured; a resumed run keeps what was found."""
    speeds, asked = {"qkv": 0.9, "attention-output": 1.2, "ffn-up": 1.1, "ffn-down": 1.3, "head": 1.0}, []

    def measure_kinds(source, options, compare):
        assert products_in_int8(source) == 0
        asked.append("kinds")
        return [KindWorth(ProductKind(name), Speedup(x, x, x)) for name, x in speeds.items()]

    def measure_table(model, settings, *_, **__):
        asked.append([kind.value for kind in settings.int8_kinds])
        if len(asked) == 2:
            raise KeyboardInterrupt
        return int8_table(project, int8_kinds=tuple(asked[-1]))

    monkeypatch.setattr(tools.int8_graphs, "measure_kinds", measure_kinds)
    monkeypatch.setattr(tools.latency_tables, "measure_table", measure_table)
    assert slimbert(*INT8, "--price", "measured")[0] == 130
    code, _, error = slimbert(*INT8, "--price", "measured", "--resume")
    faster = ["attention-output", "ffn-up", "ffn-down"]
    assert (code, asked) == (0, ["kinds", faster, faster]), error
    deployed = json.loads((project / "out/report.json").read_text())["artifacts"][-1]
    assert (deployed["path"], any("attention.self" in name for name in deployed["quantised"])) == (INT8_FILE, False)


@pytest.mark.parametrize(("failing", "name"), [(1, "the pruned model"), (2, "the dense model")])
def test_a_model_that_int8_harms_too_much_is_named(slimbert, project, monkeypatch, failing, name):
    really, calls = tools.int8_graphs.chosen_int8_from_onnx, []

    def chosen(*arguments):
        calls.append(arguments)
        if len(calls) == failing:
            raise Int8Error([Int8Agreement("logits", 0.5, 0.8, Int8Tolerance())])
        return really(*arguments)

    monkeypatch.setattr(tools.int8_graphs, "chosen_int8_from_onnx", chosen)
    int8_table(project).save(project / "table.json")
    code, _, error = slimbert(*INT8, "--latency-table", "table.json")
    assert (code, f"{name}: int8 costs more than the tolerance (logits: relative error 0.500" in error) == (1, True), (
        error
    )


@pytest.mark.parametrize(
    ("dtype", "by", "headline"),
    [
        (None, "measured", "fp32"),
        ((), "measured", "fp32"),
        (("int8",), "measured", "int8"),
        (("int8", "fp32"), "measured", "int8"),
        (("fp32", "int8"), "measured", "fp32"),
        (("int8",), "flops", "fp32"),
    ],
)
def test_the_speedup_is_for_the_precision_that_is_named_first(dtype, by, headline):
    prune = PruneSettings(target=TargetSettings(speedup=2.0), price=PriceSettings(by=by))
    export = ExportSettings(dtype=dtype)
    settings = RunSettings(model="m", task="t", data={"data": "d"}, prune=prune, export=export)
    assert settings.headline_dtype == headline
    assert table_settings(settings).dtype == headline


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--latency-table", "fp32.json"), "for another dtype: fp32; needed int8"),
        (("--latency-table", "int8.json", "--dtype", "fp32,int8"), "for another dtype: int8; needed fp32"),
        (("--latency-table", "int8.json", "--batch", "1,2"), "for another batch: 2; needed 1"),
        (("--price", "measured", "--dtype", "fp16,fp32"), "the first --dtype, and ort-cpu computes fp16 in fp32"),
        (("--price", "measured", "--runtime", "torch-cpu"), "torch-cpu cannot be asked for int8; it has fp32"),
        (("--price", "measured", "--runtime", "openvino"), "latency tables in int8 are for ort-cpu"),
    ],
)
def test_precisions_that_cannot_be_measured_are_refused(slimbert, project, arguments, message):
    quiet_table(project, dialect="standard", batch=2).save(project / "fp32.json")
    int8_table(project).save(project / "int8.json")
    code, _, error = slimbert(*INT8, *arguments)
    assert (code, message in error, error.count("\n")) == (2, True, 1), error
    assert not (project / "out").exists()


def test_checkpoints_are_run_in_the_headline_precision(slimbert, project, measured, monkeypatch):
    """Other runtimes than ONNX Runtime's are handed the checkpoint, and told how to compute."""
    half = (*MODEL, "--runtime", "torch-cpu", "--dtype", "fp16", "--speedup", "1.5", "--price", "measured")
    table = quiet_table(project, runtime="torch-cpu", dtype="fp16", dialect=None)
    monkeypatch.setattr(tools.latency_tables, "measure_table", lambda *_, **__: table)
    code, _, error = slimbert(*half)
    assert code == 0, error
    report = json.loads((project / "out/report.json").read_text())
    assert report["measured_speedup"]["dtype"] == report["speed_target"]["dtype"] == Precision.FP16


def test_the_table_of_a_run_goes_on_where_it_was_stopped(project, monkeypatch):
    table, path = quiet_table(project), project / "table.json"
    part, found = TableSamples(table.identity, "wall", 0, ()), []

    def measure_table(model, settings, progress, *, previous, keep):
        found.append(previous)
        keep(part)
        if len(found) == 1:
            raise KeyboardInterrupt
        return table

    monkeypatch.setattr(tools.latency_tables, "measure_table", measure_table)
    wanted = (load_checkpoint(project / "my-bert").model, None, path, lambda done, total, what: None)
    with pytest.raises(KeyboardInterrupt):
        measure_usable(*wanted)
    assert [measure_usable(*wanted) for _ in range(2)] == [table, table]
    assert found == [None, part]


def test_a_table_that_is_noise_is_measured_anew(project, monkeypatch):
    table, path = replace(quiet_table(project), residual=0.5), project / "table.json"

    def measure_table(*_, previous, keep):
        keep(TableSamples(table.identity, "wall", 0, ()))
        return table

    monkeypatch.setattr(tools.latency_tables, "measure_table", measure_table)
    with pytest.raises(InputError, match="the latency table is too noisy: a residual of 50%"):
        measure_usable(None, None, path, lambda done, total, what: None)
    assert not path.exists()
    assert not samples_path(path).exists()
