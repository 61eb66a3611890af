"""Reports say what was measured, escape what they are given, and load nothing."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from bench.cell import InputShape
from bench.report.bench_report import html_from_result, markdown_from_result
from bench.report.console import console_from_result
from bench.report.model_rows import model_rows
from bench.report.plots import kept_svg
from bench.report.run_report import (
    headline_from_report,
    html_from_report,
    markdown_from_report,
    metric_sentence,
)
from bench.report.schema import Metric, report_from_dict
from bench.report.wording import change_text, metric_text, ms_text, seconds_text, size_text, speedup_text
from bench.result import BenchModel
from bench.statistics import Verdict
from pruning.errors import InputError
from tests.bench.fakes import fake_report, fake_result

VOID = {"meta", "br", "img", "link", "use", "path", "line", "rect", "circle", "hr", "input"}


class Page(HTMLParser):
    """Collects tags, and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.links += [value for name, value in attrs if name in {"src", "href", "xlink:href"} and value]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_report_json_has_the_keys_other_programs_rely_on():
    report = json.loads(json.dumps(fake_report()))
    assert report["schema"] == 1
    assert {"task", "method", "requested_speedup", "parity", "seconds", "environment"} <= set(report)
    assert {"value", "ci95", "runtime", "batch", "seq"} <= set(report["measured_speedup"])
    for name in ("baseline", "candidate"):
        assert {"params", "encoder_linear_params", "bytes", "metric", "latency", "arch"} <= set(report[name])
        rows = report[name]["latency"]
        assert {"runtime", "dtype", "batch", "seq", "p50_ms", "p90_ms", "p99_ms", "samples"} <= set(rows[0])
    assert report_from_dict(report).measured_speedup.verdict is Verdict.FASTER


def test_the_headline_states_speed_size_and_accuracy():
    headline = headline_from_report(fake_report())
    assert re.match(r"1\.\d\dx faster \(95 % interval 1\.\d\d to [12]\.\d\d\) on ort-cpu fp32 at batch 1", headline)
    assert "29 % smaller" in headline
    assert "accuracy 98.2 % → 97.9 %" in headline


def test_the_headline_claims_nothing_that_was_not_shown():
    same = speedup_text(1.004, 0.99, 1.02, Verdict.NO_DIFFERENCE)
    assert "faster" not in same
    assert speedup_text(1.3, 0.9, 1.8, Verdict.UNDECIDED).startswith("speedup not proven")
    assert speedup_text(0.8, 0.7, 0.9, Verdict.SLOWER).startswith("slower")


def test_run_page_is_well_formed_and_self_contained():
    bench = fake_result()
    page = Page(html_from_report(fake_report(bench), bench))
    assert "script" not in page.seen
    assert "svg" in page.seen
    assert all(link.startswith("#") for link in page.links)


def test_run_page_holds_every_part():
    bench = fake_result()
    text = html_from_report(fake_report(bench), bench)
    for part in ("Before and after", "What was kept", "Latency", "answer like the checkpoint", "Notes", "Reproduce it"):
        assert part in text
    assert "Training used 4,000 of the 20,000 examples." in text
    assert "slimbert run models/dense" in text


def test_what_users_wrote_is_escaped():
    bench = fake_result(candidates=2)
    text = html_from_report(fake_report(bench, notes=("<script>alert(1)</script>",)), bench)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "other <b>" not in html_from_result(bench)
    assert "a \\| b" in markdown_from_report(fake_report(notes=("a | b",)))


def test_markdown_holds_the_same_figures():
    report = fake_report()
    text = markdown_from_report(report)
    assert "| accuracy | 98.2 % | 97.9 % | -0.3 points |" in text
    assert "| 6 | 1 of 12 | 0 of 1536 |" in text
    assert f"{report['measured_speedup']['value']:.2f}x faster" in text


def test_missing_accuracy_leaves_no_trace():
    report = fake_report()
    report["baseline"]["metric"] = report["candidate"]["metric"] = None
    bench = fake_result()
    for text in (markdown_from_report(report), html_from_report(report, bench)):
        assert "accuracy" not in text.lower()


def test_a_missed_request_and_a_failed_parity_are_said():
    report = fake_report(requested_speedup=4.0)
    report["parity"][0]["passed"] = False
    text = markdown_from_report(report)
    assert "4x was asked for, as a budget in encoder FLOPs; in time it is less" in text
    assert "beyond the tolerance: onnx/model.onnx" in text


def test_a_request_in_time_that_was_missed_is_not_called_flops():
    measured = {"value": 3.95, "ci95": (3.8, 4.1)}
    report = fake_report(requested_speedup=4.0)
    report["measured_speedup"] |= {"value": 3.9, "ci95": (3.85, 3.95)}
    report["speed_rounds"] = [{"asked": 4.0, "predicted": 4.0, "measured": measured, "kept": True}]
    text = markdown_from_report(report)
    assert (
        "4x was asked for in measured time; this measurement, with more blocks than those of the rounds, is 2.5%"
        in text
    )
    assert "FLOPs; in time" not in text


def test_a_busy_machine_is_said_once():
    bench = fake_result(load=3.0)
    text = html_from_report(fake_report(bench), bench)
    assert text.count("cores busy meanwhile") == 1
    assert "busy" in markdown_from_report(fake_report(bench))
    assert "idle machine, or use the thread clock." in text
    timed = replace(bench, settings=replace(bench.settings, headline_clock="thread"))
    assert "Measure again on an idle machine." in html_from_report(fake_report(timed), timed)


def test_pages_are_the_same_every_time():
    bench = fake_result()
    assert html_from_report(fake_report(bench), bench) == html_from_report(fake_report(bench), bench)
    assert kept_svg("Heads", [1, 0], [2, 2]) == kept_svg("Heads", [1, 0], [2, 2])


def shown(renderable):
    """What a wide terminal shows."""
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_percentiles_with_too_few_samples_are_left_out_and_the_reason_is_said():
    few, many = fake_result(cells=1), fake_result(cells=1, processes=9)
    for result, absent, present in ((few, ["p99 |", "p99 "], "p90"), (many, [], "p99")):
        for text in (markdown_from_result(result), shown(console_from_result(result))):
            assert present in text
            table = [line for line in text.splitlines() if "p50" in line]
            assert not any(word in line for word in absent for line in table)
    assert "p99 needs 1,000 samples per model; there are 120." in markdown_from_result(few)
    assert "needs" not in markdown_from_result(many)


def test_the_share_of_the_ideal_is_beside_the_speedup():
    text = markdown_from_result(fake_result())
    assert re.search(r"\d\d % of 2\.\d\dx", text)


def test_the_ideal_counts_what_an_export_computes():
    result = fake_result(cells=1)
    models = tuple(replace(model, facts=replace(model.facts, first_token=True)) for model in result.models)
    exported = replace(result, models=models)
    cell = result.cells[0]
    # the candidate lost most in the last layer, which an export hardly computes
    assert 1 < exported.ideal(cell, "candidate-1") < result.ideal(cell, "candidate-1")
    eager = replace(cell, runtimes=dict.fromkeys(cell.runtimes, "torch-cpu"))
    assert exported.ideal(eager, "candidate-1") == result.ideal(cell, "candidate-1")


def test_length_distributions_show_tokens_per_second_and_padding():
    result = fake_result(cells=1)
    shapes = (InputShape(1, 128, 64),) * 8
    padded = replace(result, cells=(replace(result.cells[0], workload="padded", shapes=shapes),))
    text = markdown_from_result(padded)
    assert "tokens / s" in text
    assert "padded: 50 % padding" in text
    assert "tokens / s" not in markdown_from_result(result)


def test_invalid_blocks_and_restarts_are_said():
    result = fake_result(cells=1)
    repetition = replace(result.cells[0].repetitions[0], invalid_blocks=(1, 4), restarts=1)
    text = markdown_from_result(replace(result, cells=(replace(result.cells[0], repetitions=(repetition,)),)))
    assert "2 of 30 blocks were dropped" in text
    assert "Stopped and continued in another process: ort-cpu, batch 1" in text


def test_several_processes_are_part_of_the_method():
    assert "in 4 fresh processes" in html_from_result(fake_result(cells=1, processes=4))


def test_latency_is_plotted_over_a_grid_and_only_there():
    assert "Latency against batch size" in html_from_result(fake_result(cells=2))
    assert "Latency against batch size" not in html_from_result(fake_result(cells=1))


def test_reports_identify_the_files_that_were_measured() -> None:
    rows = dict(model_rows(fake_result().models))
    assert rows["compact"].startswith("models/candidate-1, 90.9 MB, SHA-256 0000")
    assert model_rows([BenchModel("baseline", "old", "old/model.onnx")]) == [("old", "old/model.onnx")]
    assert rows["dense"] in markdown_from_result(fake_result())


def test_benchmark_reports_name_every_contestant():
    result = fake_result(candidates=2)
    for text in (markdown_from_result(result), html_from_result(result), shown(console_from_result(result))):
        assert "dense (again)" in text
        assert "noise floor (A/A)" in text
        assert "compact" in text
    Page(html_from_result(result))


@pytest.mark.parametrize(("key", "value"), [("params", "many"), ("bytes", None), ("arch", {})])
def test_a_wrong_field_is_named(key, value):
    report = fake_report()
    report["baseline"][key] = value
    with pytest.raises(InputError, match=f"not a report of schema 1: baseline.{key}"):
        report_from_dict(report)


@pytest.mark.parametrize("name", ["layers", "latency rows"])
def test_models_that_cannot_be_compared_line_by_line_are_refused(name):
    report = fake_report()
    rows = report["candidate"]["arch"]["layers"] if name == "layers" else report["candidate"]["latency"]
    rows.pop()
    with pytest.raises(InputError, match=f"differ in their number of {name}"):
        report_from_dict(report)


def test_nan_never_reaches_a_report():
    report = fake_report()
    report["candidate"]["metric"]["value"] = float("nan")
    with pytest.raises(InputError, match=r"candidate.metric.value"):
        report_from_dict(report)


def test_standard_error_is_the_binomial_one():
    assert Metric(name="accuracy", value=0.9, n=900).standard_error == pytest.approx(0.01)
    assert Metric(name="spearman", value=0.9, n=900).standard_error is None


def test_small_changes_are_called_noise():
    before, after = Metric(name="accuracy", value=0.9, n=900), Metric(name="accuracy", value=0.895, n=900)
    assert "within this noise" in metric_sentence(before, after)
    worse = Metric(name="accuracy", value=0.8, n=900)
    assert "larger than this noise" in metric_sentence(before, worse)
    assert "-0.100" in metric_sentence(Metric(name="spearman", value=0.9, n=9), Metric(name="spearman", value=0.8, n=9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ms_text(0.1234), "0.123 ms"),
        (ms_text(1.234), "1.23 ms"),
        (ms_text(12.34), "12.3 ms"),
        (ms_text(123.4), "123 ms"),
        (size_text(90_868_000), "90.9 MB"),
        (size_text(999), "999 B"),
        (seconds_text(59.94), "59.9 s"),
        (seconds_text(185), "3 min 5 s"),
        (metric_text("accuracy", 0.8945), "89.5 %"),
        (metric_text("spearman", 0.8672), "0.867"),
        (change_text(100, 59), "41 % smaller"),
        (change_text(100, 103), "3 % larger"),
        (change_text(100, 100), "same"),
    ],
)
def test_numbers_read_well(text, expected):
    assert text == expected


def test_dropped_blocks_are_counted() -> None:
    result = fake_result(cells=1)
    cell = result.cells[0]
    spoiled = replace(cell, repetitions=(replace(cell.repetitions[0], invalid_blocks=(3, 7)),))
    assert "2 of 30 blocks were dropped" in markdown_from_result(replace(result, cells=(spoiled,)))
    assert "were dropped" not in markdown_from_result(result)
