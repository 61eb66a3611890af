"""The script for a GPU machine, on the CPU with tiny shapes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bench.cell import Repetition
from bench.runners.torch_cuda import TorchCudaRunner
from bench.samples_file import write_samples
from pruning.errors import InputError
from tests.bench.fakes import fake_result
from tests.tiny import tiny_config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shapes.py"
KEYS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shapes_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    file = tmp_path / "shapes.json"
    config = {key: value for key, value in tiny_config().to_dict().items() if key in KEYS}
    half, few = {"heads": [2, 1, 0], "ffn": [12, 0, 5], "f1": 88.5}, {"heads": [1, 1, 1], "ffn": [2, 2, 2], "f1": 81.0}
    shapes = {"half": half, "few": few}
    file.write_text(json.dumps({"config": config, "shapes": shapes}))
    return file


def test_every_shape_is_measured_once_and_the_table_names_it(shapes: Path, tmp_path: Path) -> None:
    module, out = script(), tmp_path / "out"
    command = [str(shapes), "--out", str(out), "--runtime", "torch-cpu", "--batch", "1", "2", "--seq", "8"]
    effort = ["--blocks", "2", "--calls", "2", "--warmup-seconds", "0"]
    module.main(command + effort)
    samples = {path: path.read_bytes() for path in out.glob("*.json")}
    assert {path.name for path in samples} == {"torch-cpu-fp32.json"}
    text = (out / "shapes.md").read_text()
    rows = [line for line in text.splitlines() if "torch-cpu | fp32 | wall" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| half", "| half", "| few", "| few"]
    assert "launch-bound" not in text
    module.main(command + effort)
    assert {path: path.read_bytes() for path in out.glob("*.json")} == samples
    shutil.rmtree(out / "models")
    module.main([str(shapes), "--out", str(out), "--table"])
    assert (out / "shapes.md").read_text() == text


def test_published_speedups_stand_beside_ours_with_a_remark(shapes: Path, tmp_path: Path) -> None:
    module, out = script(), tmp_path / "out"
    result = fake_result(candidates=2)
    models = (result.models[0], *(replace(x, label=y) for x, y in zip(result.candidates, ("half", "few"), strict=True)))
    one_block = replace(result.cells[0], batch=64, repetitions=(cut(result.cells[0].repetitions[0], blocks=1),))
    out.mkdir()
    write_samples(out / "ort-cpu-fp32.json", replace(result, models=models, cells=(*result.cells, one_block)))
    (tmp_path / "published.csv").write_text(
        "system,method,task,metric,value,speedup,speed_measured_on\n"
        "X,dense,SQuAD,F1,89.5,1.00,reference\nX,y,SQuAD,F1,88.50,2.46,one GPU batch 128\nZ,z,SQuAD,F1,81,,nowhere\n"
    )
    command = [str(shapes), "--out", str(out), "--published", str(tmp_path / "published.csv"), "--clock", "thread"]
    module.main([*command, "--table"])
    text = (out / "shapes.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "| ort-cpu |" in line]
    assert [row[0] for row in rows] == ["half", "half", "few", "few"]  # a cell of one block cannot say anything
    assert {row[3] for row in rows} == {"thread"}
    assert [row[-1] for row in rows] == ["2.46", "2.46", "-", "-"]
    assert float(rows[0][-3]) == pytest.approx(result.ideal(result.cells[0], "candidate-1"), abs=0.01)
    assert "throughput at batch 128 (one GPU batch 128)" in text
    assert "Example CPU @ 2.90GHz, 8 cores, 1 thread" in text


def cut(repetition: Repetition, blocks: int) -> Repetition:
    """Its first blocks."""
    samples = {
        clock: {key: found[:blocks] for key, found in by_key.items()} for clock, by_key in repetition.samples_ms.items()
    }
    return replace(repetition, samples_ms=samples)


def test_a_table_of_nothing_is_refused(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no samples of torch-cpu"):
        script().main([str(shapes), "--out", str(tmp_path), "--runtime", "torch-cpu", "--table"])


def test_without_a_gpu_the_script_says_so(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script()
    monkeypatch.setattr(TorchCudaRunner, "missing", classmethod(lambda cls: "no CUDA here"))
    monkeypatch.setitem(module.RUNNERS, "ort-cuda", TorchCudaRunner)
    with pytest.raises(SystemExit, match="no GPU runtime: no CUDA here"):
        module.main([str(shapes), "--out", str(tmp_path / "out")])
