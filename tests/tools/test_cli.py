"""Every command does its work on a tiny project, and says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

import pruning.auto  # noqa: F401  # registers compact_bert
from pruning.arch import ArchSpec
from pruning.checkpoint import save_checkpoint
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import QUICK, RUN


def test_run_leaves_everything_the_design_names(project, slimbert):
    code, out, err = slimbert(*RUN, "--out", "out")
    assert (code, err.count("Traceback")) == (0, 0)
    names = {path.relative_to(project / "out").as_posix() for path in (project / "out").rglob("*") if path.is_file()}
    expected = {
        "report.json",
        "report.md",
        "report.html",
        "manifest.json",
        "bench.json",
        "config.yaml",
        "deploy/onnx/model.onnx",
    }
    expected |= {f"{folder}/{name}" for folder in ("compact", "deploy") for name in ("config.json", "tokenizer.json")}
    assert expected | {"compact/model.safetensors"} <= names
    assert "out/report.html" in out
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["schema"] == 1
    assert report["requested_speedup"] == 2.0
    assert report["baseline"]["params"] > report["candidate"]["params"]
    assert all(row["passed"] for row in report["parity"])
    arch = ArchSpec.from_dict(report["candidate"]["arch"])
    dense = ArchSpec.from_dict(report["baseline"]["arch"])
    assert arch.encoder_flops(16, first_token=True) <= dense.encoder_flops(16, first_token=True) / 2


def test_the_compact_folder_loads_in_one_line_and_in_a_pipeline(project, slimbert):
    assert slimbert(*RUN, "--out", "out", "--quiet")[0] == 0
    model = AutoModelForSequenceClassification.from_pretrained("out/compact")
    assert type(model).__name__ == "CompactBertForSequenceClassification"
    answer = pipeline("text-classification", model="out/compact")("the cat sat on the mat")
    assert answer[0]["label"] in {"LABEL_0", "LABEL_1"}


def test_json_output_is_one_document(project, slimbert):
    code, out, _ = slimbert(*RUN, "--out", "out", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((project / "out" / "report.json").read_text())


def test_quiet_prints_nothing(project, slimbert):
    assert slimbert(*RUN, "--out", "out", "--quiet") == (0, "", "")


def test_verify_accepts_a_run_and_refuses_a_changed_file(project, slimbert):
    slimbert(*RUN, "--out", "out")
    code, out, _ = slimbert("verify", "out")
    assert code == 0
    assert "deploy/onnx/model.onnx: same answers" in out
    (project / "out" / "report.md").write_text("faster than light")
    (project / "out" / "deploy" / "extra.txt").write_text("?")
    (project / "out" / "report.html").unlink()
    code, out, _ = slimbert("verify", "out")
    assert code == 1
    assert "report.md: changed" in out
    assert "report.html: missing" in out
    assert "deploy/extra.txt: not listed" in out


@pytest.mark.parametrize(
    "target", [("--density", "0.5"), ("--params", "5000"), ("--bytes", "20000"), ("--speedup", "1.5")]
)
@pytest.mark.parametrize("method", ["oneshot", "drop", "fisher", "magnitude", "uniform", "random"])
def test_prune_keeps_within_every_budget(project, slimbert, target, method):
    code, out, _ = slimbert(
        "prune", "my-bert", "--data", "reviews.csv", *target, "--method", method, "--ffn-multiple", "4", "--seq", "16",
        "--no-reconstruct", "--out", "small", "--json",
    )  # fmt: skip
    assert code == 0
    facts = json.loads(out)
    before, after = facts["baseline"], facts["candidate"]
    name, value = target
    limits = {
        "--density": after["encoder_linear_params"] / before["encoder_linear_params"] <= float(value),
        "--params": after["params"] <= float(value),
        "--bytes": after["bytes"] <= float(value),
        "--speedup": facts["flops_ratio"] >= float(value),
    }
    assert limits[name]


def test_prune_to_a_shape(project, slimbert):
    shape = ArchSpec.from_lists(16, 4, [4, 0, 1], [8, 24, 0])
    (project / "shape.json").write_text(shape.to_json())
    code, out, _ = slimbert(
        "prune", "my-bert", "--data", "reviews.csv", "--shape", "shape.json", "--out", "small", "--json"
    )
    assert code == 0
    assert json.loads(out)["candidate"]["arch"] == shape.to_dict()


def test_export_evaluate_and_inspect_agree(project, slimbert):
    assert slimbert("export", "my-bert", "--out", "exported", "--quiet")[0] == 0
    scores = []
    for model in ("my-bert", "exported", "exported/onnx/model.onnx"):
        code, out, _ = slimbert("eval", model, "--task", "text-classification", "--data", "reviews.csv", "--json")
        assert code == 0
        scores.append(json.loads(out)["metric"])
    assert scores[0] == scores[1] == scores[2]
    archs = [json.loads(slimbert("inspect", path, "--json")[1])["arch"] for path in ("my-bert", "exported")]
    assert archs[0] == archs[1]
    assert "24" in slimbert("inspect", "my-bert")[1]
    shown = slimbert("inspect", "exported")[1]
    assert "inputs: input_ids batch x sequence, " in shown
    assert "right_padding no" in shown


def test_evaluation_against_a_reference(project, slimbert):
    arguments = ("--task", "text-classification", "--data", "reviews.csv", "--reference", "my-bert", "--json")
    assert json.loads(slimbert("eval", "my-bert", *arguments)[1])["others"]["agreement"] == 1.0


def test_finetune_learns_and_resumes_to_the_same_result(project, slimbert):
    arguments = (
        "finetune", "my-bert", "--task", "text-classification", "--data", "reviews.csv", "--epochs", "2",
        "--batch-size", "16", "--learning-rate", "0.01", "--out", "tuned", "--json",
    )  # fmt: skip
    code, out, _ = slimbert(*arguments)
    assert code == 0
    assert json.loads(slimbert(*arguments, "--resume")[1]) == json.loads(out)


BENCH = ("bench", "my-bert", "my-bert", "--blocks", "2", "--warmup-seconds", "0.001", "--seq", "16")


def test_bench_writes_samples_and_pages_and_obeys_the_gate(project, slimbert):
    outputs = ("--json", "b.json", "--html", "b.html", "--markdown", "b.md")
    code, out, err = slimbert(*BENCH, "--runtime", "torch-cpu,ort-cpu", *outputs, "--fail-under", "1e-6")
    assert code == 0
    assert "A/A" in out
    assert "writing to b.json ..." in err
    assert json.loads((project / "b.json").read_text())["schema"] == 2
    assert (project / "b.html").read_text().startswith("<!doctype html>")
    assert (project / "b.md").read_text().startswith("# Benchmark")
    code, out, _ = slimbert("bench", "--from", "b.json", "--fail-under", "1e6")
    assert code == 1
    assert "wanted 1e+06x" in out


def test_every_report_is_made_again_from_the_samples_alone(project, slimbert):
    slimbert(*BENCH, "--html", "first.html", "--markdown", "first.md")
    shutil.rmtree(project / "my-bert")
    again = ("--json", "copy.json", "--html", "again.html", "--markdown", "again.md")
    code, _, _ = slimbert("bench", "--from", "bench.json", *again)
    assert code == 0
    for first, second in (("first.html", "again.html"), ("first.md", "again.md"), ("bench.json", "copy.json")):
        assert (project / first).read_text() == (project / second).read_text()


def test_bench_measures_texts_and_their_lengths_and_resumes(project, slimbert):
    arguments = (*BENCH, "--lengths", "reviews.csv", "--batch", "2", "--quiet")
    assert slimbert(*arguments) == (0, "", "")
    cells = json.loads((project / "bench.json").read_text())["cells"]
    assert [cell["workload"] for cell in cells] == ["full", "padded", "bucketed", "packed"]
    assert slimbert(*arguments, "--resume")[0] == 0
    assert json.loads((project / "bench.json").read_text())["cells"] == cells


def test_bench_shows_a_ladder_and_accuracy_against_speedup(project, slimbert):
    (project / "metrics.csv").write_text("model,metric,value,task\nmy-bert,accuracy,0.9,SST-2\n")
    (project / "published.csv").write_text("system,method,task,metric,value,speedup\nX,y,SST-2,accuracy,91,1.8\n")
    ladder = ("my-bert@torch-cpu", "my-bert@ort-cpu", "my-bert@ort-cpu")
    plots = ("--metrics", "metrics.csv", "--published", "published.csv", "--html", "b.html")
    code, out, err = slimbert("bench", *ladder, *BENCH[3:], "--ladder", *plots)
    assert code == 0, err
    assert "what each step gives" in out
    page = (project / "b.html").read_text()
    assert "What each step gives" in page
    assert "X, y" in page


def test_bench_compares_two_samples_files(project, slimbert):
    slimbert(*BENCH, "--quiet")
    code, out, _ = slimbert("bench", "compare", "bench.json", "bench.json", "--fail-if-slower", "--json")
    assert code == 0
    (change,) = json.loads(out)["changes"]
    assert change["ratio"]["value"] == pytest.approx(1.0)
    assert "now / then" in slimbert("bench", "compare", "bench.json", "bench.json")[1]


def test_bench_gates_on_slower_candidates(project, slimbert):
    from bench.samples_file import write_samples  # noqa: PLC0415
    from tests.bench.fakes import fake_result  # noqa: PLC0415

    old, new = fake_result(), fake_result()
    swapped = {"baseline": "candidate-1", "control": "candidate-1", "candidate-1": "baseline"}
    for cell in new.cells:
        for by_key in cell.repetitions[0].samples_ms.values():
            by_key.update({key: by_key[other] for key, other in dict(swapped).items() if key == "candidate-1"})
            by_key["candidate-1"] = tuple(tuple(2 * x for x in block) for block in by_key["candidate-1"])
    write_samples(project / "old.json", old)
    write_samples(project / "new.json", new)
    assert slimbert("bench", "--from", "old.json", "--fail-if-slower")[0] == 0
    code, out, _ = slimbert("bench", "--from", "new.json", "--fail-if-slower")
    assert (code, "compact, ort-cpu, batch 1, sequence 128: slower" in out) == (1, True)
    assert slimbert("bench", "compare", "old.json", "new.json")[0] == 0
    assert slimbert("bench", "compare", "old.json", "new.json", "--fail-if-slower")[0] == 1


def test_feature_extraction_run(project, slimbert):
    save_checkpoint(tiny_bert("encoder"), tiny_tokenizer(), project / "encoder")
    code, _, _ = slimbert(
        "run", "encoder", "--task", "feature-extraction", "--data", "reviews.csv", "--speedup", "1.5", *QUICK,
        "--out", "out",
    )  # fmt: skip
    assert code == 0
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["baseline"]["metric"]["name"] == "fidelity"
    assert report["baseline"]["metric"]["value"] == pytest.approx(1.0)
    assert 0 < report["candidate"]["metric"]["value"] <= 1.0


def test_unlabelled_data_leave_the_accuracy_open(project, slimbert):
    lines = (project / "reviews.csv").read_text().splitlines()
    (project / "texts.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    arguments = [argument.replace("reviews", "texts") for argument in RUN]
    assert slimbert(*arguments, "--out", "out")[0] == 0
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["candidate"]["metric"] is None
    assert any("no labels" in note for note in report["notes"])


def test_options_come_from_a_file_and_the_command_line_wins(project, slimbert):
    (project / "run.yaml").write_text("speedup: 2\nseq: 16\nffn-multiple: 4\nblocks: 2\nwarmup_seconds: 0.001\n")
    arguments = ("run", "my-bert", "--task", "text-classification", "--data", "reviews.csv", "--config", "run.yaml")
    assert slimbert(*arguments, "--max-length", "16", "--speedup", "1.5", "--out", "out")[0] == 0
    report = json.loads((project / "out" / "report.json").read_text())
    assert report["requested_speedup"] == 1.5
    assert report["measured_speedup"]["seq"] == 16


def test_the_reported_command_repeats_the_run(project, slimbert):
    slimbert(*RUN, "--out", "out")
    command = json.loads((project / "out" / "report.json").read_text())["command"]
    assert command.startswith("slimbert run my-bert")
    words = command.replace("--out out", "--out again").split()[1:]
    assert slimbert(*words)[0] == 0
    first, second = (project / name / "compact" / "model.safetensors" for name in ("out", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_saved_configuration_repeats_the_run(project, slimbert):
    slimbert(*RUN, "--out", "out")
    code, _, err = slimbert("run", "--config", "out/config.yaml", "--out", "again")
    assert code == 0, err
    first, second = (
        json.loads((project / name / "manifest.json").read_text())["settings"] for name in ("out", "again")
    )
    assert first == second


def test_doctor_names_versions_and_runtimes(slimbert):
    code, out, _ = slimbert("doctor", "--json")
    facts = json.loads(out)
    assert code == (1 if facts["problems"] else 0)
    assert facts["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"torch-cpu", "ort-cpu"} <= set(facts["runtimes"])


@pytest.mark.parametrize(
    "command", ["demo", "run", "finetune", "prune", "export", "fill", "bench", "eval", "inspect", "verify"]
)
def test_every_command_has_help(slimbert, command):
    code, out, _ = slimbert(command, "--help")
    assert code == 0
    assert "Usage" in out


def test_help_does_not_load_torch():
    script = "import sys, tools.cli as c; c.exit_code_from(['run', '--help']); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.rstrip().endswith("False")


def test_one_shot_pruning_does_not_load_what_only_measures_draws_or_scores():
    script = "import sys, tools.one_shot_prune; print({'matplotlib', 'scipy.stats', 'datasets'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.rstrip().endswith("set()")


def test_bench_profiles_and_measures_throughput_and_load(project, slimbert):
    quick = ("--largest-batch", "1", "--rates", "50%", "--load-seconds", "0.05", "--max-batch", "2")
    names = ("--experiment", "throughput,load", "--profile", "--html", "page.html", "--markdown", "page.md")
    code, out, err = slimbert(*BENCH, *names, *quick)
    assert (code, err.count("Traceback")) == (0, 0)
    result = json.loads((project / "bench.json").read_text())
    assert result["cells"] == []
    assert set(result["experiments"]) == {"throughput", "load", "profile"}
    for shown in (out, (project / "page.html").read_text(), (project / "page.md").read_text()):
        for title in ("Where the time went", "By operator", "Throughput", "Response time under load"):
            assert title in shown
    assert slimbert(*BENCH, *names, *quick, "--resume")[0] == 0
    assert json.loads((project / "bench.json").read_text())["experiments"] == result["experiments"]
    assert slimbert("bench", "--from", "bench.json", "--quiet") == (0, "", "")


def test_bench_puts_a_profile_beside_the_latency(project, slimbert):
    assert slimbert(*BENCH, "--profile", "--quiet", "--html", "page.html") == (0, "", "")
    result = json.loads((project / "bench.json").read_text())
    assert len(result["cells"]) == 1
    assert list(result["experiments"]) == ["profile"]
    assert "Where the time went" in (project / "page.html").read_text()
