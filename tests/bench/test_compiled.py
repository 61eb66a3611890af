"""PyTorch on the CPU is compiled where that is asked for, and the faster way is the one that is measured."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from bench.compare import measure
from bench.contestants import name_models
from bench.report.bench_report import html_from_result, markdown_from_result
from bench.result import BenchResult, BenchSettings
from bench.runners.base import Variant
from bench.runners.torch_cpu import TorchCpuRunner
from bench.telemetry.recorded import variants_ms
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import tiny_batch, tiny_bert

SETTINGS = BenchSettings(runtimes=("torch-cpu",), seqs=(8,), blocks=2, calls=2, warmup_seconds=0.0, compiled=True)


def prefer(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one way always take 1 ms and the other 2 ms."""
    monkeypatch.setattr(TorchCpuRunner, "_time", lambda runner, batch, tried: 1.0 if tried is variant else 2.0)


@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
def test_a_compiled_model_answers_like_the_model(padding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefer(Variant.COMPILED, monkeypatch)
    batch, model = tiny_batch(padding=padding), tiny_compact("sequence-classification", [4, 0, 1], [24, 5, 0]).eval()
    with torch.no_grad():
        expected = model(**batch).logits
    with TorchCpuRunner(model, 1, compiler="eager") as runner:
        assert runner.tune(batch) == {"eager": 2.0, "compiled": 1.0}
        torch.testing.assert_close(runner.run(batch)["logits"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fastest", [Variant.EAGER, Variant.COMPILED])
def test_the_faster_way_is_taken_for_the_shape_it_was_faster_for(
    fastest: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(fastest, monkeypatch)
    taken: list[Variant] = []
    with TorchCpuRunner(tiny_bert().eval(), 1, compiler="eager") as runner:
        runner.tune(tiny_batch(2, 8))
        monkeypatch.setattr(runner, "_run", lambda batch, variant: taken.append(variant))
        for batch in (tiny_batch(2, 8), tiny_batch(2, 9)):
            runner.run(batch)
    assert taken == [fastest, Variant.EAGER]


def test_without_a_compiler_there_is_one_way() -> None:
    with TorchCpuRunner(tiny_bert().eval(), 1) as runner:
        assert runner.tune(tiny_batch()) == {}


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise TorchDynamoException("no working\nC++ compiler")

    monkeypatch.setattr(torch, "compile", lambda model, **options: fail)
    with (
        TorchCpuRunner(tiny_bert().eval(), 1, compiler="inductor") as runner,
        pytest.raises(InputError, match=r"cannot compile this model here \(no working C\+\+ compiler\). Install a C"),
    ):
        runner.tune(tiny_batch())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # from inside PyTorch's compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_both_ways_are_measured_and_shown(dense: Path) -> None:
    result = measure(name_models([dense, dense]), SETTINGS, {})
    times = variants_ms(result.cells[0], "candidate-1")
    assert set(times) == {"eager", "compiled"}
    assert min(times.values()) > 0
    for text in (html_from_result(result), markdown_from_result(result)):
        assert "variants (wall clock)" in text
    assert BenchResult.from_dict(result.to_dict()).settings.compiled


def test_a_runtime_without_pytorch_is_refused(dense: Path) -> None:
    with pytest.raises(InputError, match=r"--compile is for PyTorch\. Add torch-cpu to --runtime"):
        measure(name_models([dense, dense]), replace(SETTINGS, runtimes=("ort-cpu",)), {})
