"""The table on a fake clock: probes take a known time, with noise and spikes that only ever add."""

import random
from dataclasses import replace
from functools import partial

import pytest

import bench.table
from bench.environment import environment_from_machine
from bench.runners.base import Bound, Limits
from bench.runners.torch_cuda import TorchCudaRunner
from bench.table import TableSettings, identity_from_model, measure_table, serves_first_token
from bench.table_fit import fit_row, low_ms, residual_share
from bench.table_probes import Probe, RowProbes, ffn_widths, probe_model, random_shapes, row_probes, save_probe
from bench.timer import Clock, time_calls
from exporter.options import Dialect
from pruning.arch import ArchSpec, LayerSpec
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.latency_table import Row
from tests.bench.fake_device import FakeDevice as FakeGpu
from tests.tiny import tiny_bert

LAYER_MS, HEAD_MS, NEURON_MS, START_MS = 0.4, 3.0, 0.5, 2.0


class FakeDevice:
    """A machine on which a layer costs a start, then so much per head and per neuron, and some calls far more."""

    def __init__(self, noise):
        self.now, self.noise, self.generator = 0, noise, random.Random(0)

    def true_ms(self, probe):
        first_token = probe.head == "sequence-classification"
        narrow = max((i for i, x in enumerate(probe.layers) if x.heads), default=0) if first_token else 99
        return 1.0 + sum(
            (0.1 if index >= narrow else 1.0)
            * (LAYER_MS + bool(x.heads) * START_MS + HEAD_MS * x.heads + NEURON_MS * x.ffn)
            for index, x in enumerate(probe.layers)
        )

    def call(self, probe):
        spike = 8 if self.generator.random() < 0.3 else 1
        self.now += int(1e6 * self.true_ms(probe) * spike * (1 + self.noise * self.generator.random()))


class FakeRunner:
    runtime, device, limits = "ort-cpu", None, Limits(256, 64)

    def __init__(self, device, probe):
        self.run = partial(device.call, probe)

    def bind(self, batch):
        return Bound(batch, self.run)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def measured(monkeypatch, noise, model=None, blocks=30):
    device = FakeDevice(noise)
    monkeypatch.setattr(bench.table, "_load_probe", lambda model, probe, settings, folder: FakeRunner(device, probe))
    timer = partial(time_calls, clocks=[Clock("wall", lambda: device.now)])
    table = measure_table(model or tiny_bert(), TableSettings(seq=16, blocks=blocks), time_block=timer)
    return table, device


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_truth_is_found_under_noise_and_spikes(monkeypatch, noise):
    table, device = measured(monkeypatch, noise)
    assert table.verdict == "good"
    assert table.heads.ms == pytest.approx([0, *(START_MS + HEAD_MS * h for h in range(1, 5))], rel=2 * noise + 1e-6)
    assert table.ffn.ms[-1] == pytest.approx(NEURON_MS * 24, rel=2 * noise + 1e-6)
    assert table.last_ffn.ms[-1] < 0.15 * table.ffn.ms[-1]
    assert len(table.checks) == 4
    for shape in random_shapes(arch_from_model(tiny_bert()), 20, seed=7):
        truth = device.true_ms(Probe("sequence-classification", shape.layers))
        assert table.prices(shape).total(shape) == pytest.approx(truth, rel=2 * noise + 1e-6)


def test_where_every_token_is_read_the_last_layer_is_like_the_others(monkeypatch):
    table, device = measured(monkeypatch, 0.0, tiny_bert("token-classification"))
    arch = arch_from_model(tiny_bert())
    assert table.last_heads is None
    assert table.prices(arch).total(arch) == pytest.approx(device.true_ms(Probe("token-classification", arch.layers)))


def test_a_machine_on_which_more_work_takes_less_time_is_refused(monkeypatch):
    truth = FakeDevice.true_ms
    odd_is_slow = {0: 1.0, 1: 3.0}
    monkeypatch.setattr(FakeDevice, "true_ms", lambda self, x: truth(self, x) * odd_is_slow[x.layers[0].heads % 2])
    table, _ = measured(monkeypatch, 0.0)
    assert table.verdict == "noisy"
    with pytest.raises(InputError, match="too noisy"):
        table.require_usable()


def test_a_low_percentile_ignores_spikes():
    assert low_ms([1.0] * 20 + [9.0] * 80) == 1.0


def test_the_fit_rises_and_tells_how_far_off_the_measurements_are():
    base, *probes = (Probe("encoder", (LayerSpec(0, f),)) for f in (0, 8, 16, 24))
    times = dict(zip([base, *probes], [1.0, 3.0, 2.0, 5.0], strict=True))
    row, residual = fit_row(RowProbes(base, (8, 16, 24), tuple(probes), 1), times)
    assert row == Row((0, 8, 16, 24), (0.0, 1.5, 1.5, 4.0))
    assert residual == 0.5
    assert residual_share({"ffn": (row, residual)}) == 0.125
    assert residual_share({"ffn": (Row((0, 24), (0.0, 0.0)), 0.4)}) == 1.0
    assert residual_share({"ffn": (row, 0.0), "last_ffn": (Row((0, 24), (0.0, 0.1)), 0.4)}) == pytest.approx(0.1)
    assert residual_share({"ffn": (Row((0, 24), (0.0, 0.0)), 0.4)}) == 1.0  # noise alone


def test_a_model_without_heads_has_an_empty_row():
    base = Probe("encoder", (LayerSpec(0, 0),))
    assert fit_row(RowProbes(base, (), (), 1), {base: 1.0}) == (Row((0,), (0.0,)), 0.0)


@pytest.mark.parametrize(("ffn", "count"), [(1536, 13), (3072, 13), (24, 3), (5, 1)])
def test_widths_end_at_the_full_one(ffn, count):
    widths = ffn_widths(ffn)
    assert widths[-1] == ffn
    assert len(widths) >= count
    assert list(widths) == sorted(set(widths))


def test_a_probe_is_a_checkpoint_of_nothing_but_its_sublayer(tmp_path):
    for row in row_probes(4, 24, first_token=True).values():
        model = probe_model(row.probes[-1], tiny_bert().config, 4)
        save_probe(model, tmp_path / row.probes[-1].head / str(row.chain) / str(row.sizes))
        loaded = load_checkpoint(tmp_path / row.probes[-1].head / str(row.chain) / str(row.sizes)).model
        assert arch_from_model(loaded) == ArchSpec(16, 4, row.probes[-1].layers)


@pytest.mark.parametrize("runtime", ["ort-cpu", "torch-cpu"])
def test_a_real_runtime_is_measured(runtime):
    calls = []
    table = measure_table(
        tiny_bert(), TableSettings(runtime, batch=2, seq=8, blocks=1), lambda *step: calls.append(step)
    )
    assert (table.last_heads is None) == (runtime == "torch-cpu")
    assert table.identity == identity_from_model(tiny_bert(), TableSettings(runtime, batch=2, seq=8))
    assert table.identity.versions
    assert table.identity.dialect == ("ort-cpu" if runtime == "ort-cpu" else None)
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_probes_are_exported_as_what_is_deployed():
    assert TableSettings().graph_dialect == Dialect.ORT_CPU
    assert TableSettings(dtype="fp16").graph_dialect is None
    assert TableSettings(dtype="int8").graph_dialect == Dialect.ORT_CPU
    assert TableSettings(runtime="openvino").graph_dialect is None
    assert TableSettings(dialect=Dialect.STANDARD).graph_dialect == Dialect.STANDARD


def test_a_table_of_a_gpu_names_the_gpu(monkeypatch):
    monkeypatch.setattr(TorchCudaRunner, "missing", classmethod(lambda cls: None))
    monkeypatch.setattr("bench.runners.device_runner.cuda_device", lambda index: FakeGpu(name=f"GPU {index}"))
    assert identity_from_model(tiny_bert(), TableSettings("torch-cuda")).device == "GPU 0"
    assert identity_from_model(tiny_bert(), TableSettings("torch-cpu")).device == environment_from_machine().cpu


def test_only_classifiers_outside_of_torch_serve_the_first_token():
    assert serves_first_token("ort-cpu", "sequence-classification")
    assert not serves_first_token("torch-cpu", "sequence-classification")
    assert not serves_first_token("ort-cpu", "token-classification")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch of a latency table must be at least 1; got 0"),
        ({"blocks": 0}, "blocks of a latency table"),
        ({"clock": "sun"}, "one of wall, thread; got 'sun'"),
        ({"clock": "thread", "threads": 2}, "sees one thread only; got 2"),
        ({"runtime": "torch-cpu", "dialect": Dialect.STANDARD}, "torch-cpu runs no graph"),
        ({"dtype": "fp12"}, "one of fp32, fp16, bf16, int8; got 'fp12'"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(InputError, match=message):
        replace(TableSettings(), **changes)
