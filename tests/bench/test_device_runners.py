"""Runners of a GPU on a device of Python objects, and, where there is one, on a GPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from bench.measuring import check_headline, contest_from_runners
from bench.paired import BlockPlan, measure_blocks, samples_from_blocks
from bench.runners import device_runner
from bench.runners.base import Precision, RunnerOptions, Variant
from bench.runners.registry import load_runner
from bench.runners.torch_cuda import TorchCudaRunner
from bench.timer import WALL, WarmupPolicy
from pruning.errors import InputError
from tests.bench.fake_device import FakeDevice
from tests.tiny import tiny_batch, tiny_bert

BATCHES = [tiny_batch(2, 7, seed, padding="none") for seed in range(8)]


def torch_runner(device: FakeDevice, variant: Variant | None = None) -> TorchCudaRunner:
    return TorchCudaRunner(tiny_bert(), device, variant, backend="eager")


@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
def test_every_variant_answers_like_the_model(variant: Variant, padding: str) -> None:
    runner = torch_runner(FakeDevice(), variant)
    for seed in (1, 2):
        batch = tiny_batch(2, 7, seed, padding)
        with torch.no_grad():
            expected = tiny_bert()(**batch).logits
        torch.testing.assert_close(runner.run(batch)["logits"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", list(Variant))
def test_two_inputs_of_one_shape_have_two_answers(variant: Variant) -> None:
    runner = torch_runner(FakeDevice(), variant)
    first, second = (runner.run(batch)["logits"] for batch in BATCHES[:2])
    assert (first - second).abs().max() > 1e-3
    bound = [runner.bind(batch) for batch in BATCHES[:2]]
    with torch.inference_mode():
        torch.testing.assert_close(bound[0]()["logits"], first)
        torch.testing.assert_close(bound[1]()["logits"], second)


def test_a_padded_batch_after_an_unpadded_one_keeps_its_mask() -> None:
    runner = torch_runner(FakeDevice(), Variant.CUDA_GRAPH)
    runner.run(BATCHES[0])
    padded = tiny_batch(2, 7, padding="right") | {"attention_mask": torch.tensor([[1] * 7, [1, 1] + [0] * 5])}
    with torch.no_grad():
        expected = tiny_bert()(**padded).logits
    torch.testing.assert_close(runner.run(padded)["logits"], expected, atol=1e-5, rtol=1e-5)


def test_tuning_takes_the_fastest_variant_of_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = torch_runner(FakeDevice())
    times = iter([3.0, 2.0, 1.0])
    monkeypatch.setattr(device_runner, "time_on_device", lambda calls, device: {"gpu": (next(times),)})
    assert runner.variant(BATCHES[0]) is Variant.EAGER
    assert runner.tune(BATCHES[0]) == {"eager": 3.0, "compiled": 2.0, "cuda-graph": 1.0}
    assert runner.variant(BATCHES[0]) is Variant.CUDA_GRAPH
    assert runner.variant(tiny_batch(3, 7, padding="none")) is Variant.EAGER


def test_the_variant_that_was_asked_for_stays() -> None:
    runner = torch_runner(FakeDevice(), Variant.COMPILED)
    runner.tune(BATCHES[0])
    assert runner.variant(BATCHES[0]) is Variant.COMPILED


def test_a_runner_says_what_it_is() -> None:
    runner = torch_runner(FakeDevice())
    assert (runner.runtime, runner.dtype, runner.output_names) == ("torch-cuda", "fp32", ("logits",))
    assert set(runner.input_names) == set(BATCHES[0])


def test_blocks_are_read_by_the_clocks_of_the_device() -> None:
    device = FakeDevice()
    runners = {name: torch_runner(device) for name in ("baseline", "control")}
    contest = contest_from_runners(runners, BATCHES, [WALL], cold_l2=True)
    assert contest.clocks == ("gpu", "enqueue", "end-to-end")
    plan = BlockPlan(blocks=2, calls=2)
    blocks = list(measure_blocks(contest.contestants, contest.inputs, plan, contest.time_block))
    samples = samples_from_blocks(blocks)
    assert list(samples) == ["gpu", "enqueue", "end-to-end"]
    assert all(len(block) == 2 for by_name in samples.values() for rows in by_name.values() for block in rows)
    assert device.log.count("flush") == 2 * 2 * 2
    assert device.log.count("pinned") == 3 * len(BATCHES)
    assert device.inside == 0


def test_warm_up_waits_for_the_device() -> None:
    device = FakeDevice()
    assert torch_runner(device).warm_up(BATCHES[0], WarmupPolicy(0, 0)).calls == 15
    assert device.idle


def test_a_clock_that_a_device_does_not_have_is_refused() -> None:
    contest = contest_from_runners({"baseline": torch_runner(FakeDevice())}, BATCHES, [WALL])
    check_headline(contest, "gpu", "torch-cuda")
    with pytest.raises(InputError, match="torch-cuda has no clock 'wall'; name one of gpu, enqueue, end-to-end"):
        check_headline(contest, "wall", "torch-cuda")


def test_cpu_and_gpu_are_not_timed_against_each_other(dense: Path) -> None:
    with load_runner("torch-cpu", dense) as cpu, pytest.raises(InputError, match="cannot be timed against each other"):
        contest_from_runners({"baseline": cpu, "candidate": torch_runner(FakeDevice())}, BATCHES, [WALL])


def test_a_variant_that_a_runtime_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchCudaRunner, "variants", (Variant.EAGER,))
    with pytest.raises(InputError, match="torch-cuda has no variant compiled; it has eager"):
        torch_runner(FakeDevice(), Variant.COMPILED)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("variant", list(Variant))
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("fp16", 5e-2), ("bf16", 3e-1)])
def test_a_gpu_answers_like_the_cpu(variant: Variant, dtype: str, tolerance: float, dense: Path) -> None:
    options = RunnerOptions(dtype=Precision(dtype), variant=variant)
    with load_runner("torch-cuda", dense, options=options) as runner, load_runner("torch-cpu", dense) as reference:
        assert runner.dtype == dtype
        for batch in (*BATCHES[:2], tiny_batch(2, 7, padding="right")):
            expected = reference.run(batch)["logits"]
            scale = max(1.0, float(expected.abs().max()))
            assert (runner.run(batch)["logits"] - expected).abs().max() <= tolerance * scale
        contest = contest_from_runners({"baseline": runner}, BATCHES, [WALL], cold_l2=True)
        samples = contest.time_block([partial(contest.contestants["baseline"], index) for index in range(4)])
        assert all(value > 0 for values in samples.values() for value in values)
