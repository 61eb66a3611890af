"""The script for a GPU machine, on the CPU with tiny shapes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from bench.runners.torch_cuda import TorchCudaRunner
from tests.tiny import tiny_config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shapes.py"
KEYS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shapes_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    file = tmp_path / "shapes.json"
    config = {key: value for key, value in tiny_config().to_dict().items() if key in KEYS}
    shapes = {"half": {"heads": [2, 1, 0], "ffn": [12, 0, 5]}, "few": {"heads": [1, 1, 1], "ffn": [2, 2, 2]}}
    file.write_text(json.dumps({"config": config, "shapes": shapes}))
    return file


def test_every_shape_is_measured_once_and_the_table_names_it(shapes: Path, tmp_path: Path) -> None:
    module, out = script(), tmp_path / "out"
    command = [str(shapes), "--out", str(out), "--runtime", "torch-cpu", "--batch", "1", "2", "--seq", "8"]
    effort = ["--blocks", "2", "--calls", "2", "--warmup-seconds", "0"]
    module.main(command + effort)
    samples = {path: path.read_bytes() for path in out.glob("*.json")}
    assert {path.name for path in samples} == {"torch-cpu-fp32.json"}
    rows = [line for line in (out / "shapes.md").read_text().splitlines() if "torch-cpu | fp32 | wall" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| half", "| half", "| few", "| few"]
    module.main(command + effort)
    assert {path: path.read_bytes() for path in out.glob("*.json")} == samples


def test_without_a_gpu_the_script_says_so(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script()
    monkeypatch.setattr(TorchCudaRunner, "missing", classmethod(lambda cls: "no CUDA here"))
    monkeypatch.setitem(module.RUNNERS, "ort-cuda", TorchCudaRunner)
    with pytest.raises(SystemExit, match="no GPU runtime: no CUDA here"):
        module.main([str(shapes), "--out", str(tmp_path / "out")])
