"""A folder saved with its code must load where slimbert is not installed."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import save_file

from pruning.auto import AUTO_CLASSES
from pruning.checkpoint import load_checkpoint, save_checkpoint
from tests.pruning.compact import HEADS, largest_gap, tensors_of, tiny_compact
from tests.tiny import tiny_batch, tiny_bert, tiny_tokenizer

ELSEWHERE = """
import importlib.abc, json, pathlib, sys

class NoSlimbert(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pruning", "exporter", "bench", "tools", "tests"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NoSlimbert())
import transformers
from safetensors.torch import load_file

root, gaps = pathlib.Path(sys.argv[1]), {}
for head, auto_class in json.loads(sys.argv[2]).items():
    model = getattr(transformers, auto_class).from_pretrained(root / head, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    tokenizer = transformers.AutoTokenizer.from_pretrained(root / head, trust_remote_code=True)
    assert tokenizer("the cat").input_ids == json.loads(sys.argv[3])
    outputs = model(**load_file(root / "batch.safetensors"))
    expected = load_file(root / f"{head}.safetensors")
    gaps[head] = max((outputs[name] - tensor).abs().max().item() for name, tensor in expected.items())
print(json.dumps(gaps))
"""


def test_it_loads_and_answers_alike_without_slimbert(tmp_path):
    root, away = tmp_path / "saved", tmp_path / "elsewhere"
    away.mkdir()
    for head in HEADS:
        model = tiny_compact(head)
        save_checkpoint(model, tiny_tokenizer(), root / head, with_code=True)
        expected = {name: tensor.clone() for name, tensor in tensors_of(model(**tiny_batch())).items()}
        save_file(expected, root / f"{head}.safetensors")
    save_file(tiny_batch(), root / "batch.safetensors")
    autos = json.dumps({head: AUTO_CLASSES[head].__name__ for head in HEADS})
    ids = json.dumps(tiny_tokenizer()("the cat").input_ids)
    answer = subprocess.run(
        [sys.executable, "-P", "-c", ELSEWHERE, str(root), autos, ids],
        cwd=away,
        env={"PATH": os.environ["PATH"], "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == dict.fromkeys(HEADS, 0.0)


@pytest.mark.parametrize("head", HEADS)
def test_the_code_stands_beside_the_weights(tmp_path, head):
    save_checkpoint(tiny_compact(head), tiny_tokenizer(), tmp_path / "saved", with_code=True)
    assert {path.name for path in (tmp_path / "saved").glob("*.py")} == {"config.py", "heads.py", "model.py"}
    auto_map = json.loads((tmp_path / "saved" / "config.json").read_text())["auto_map"]
    assert set(auto_map) == {"AutoConfig", AUTO_CLASSES[head].__name__}


def test_a_dense_model_needs_no_code(tmp_path):
    save_checkpoint(tiny_bert(), tiny_tokenizer(), tmp_path / "saved", with_code=True)
    assert list((tmp_path / "saved").glob("*.py")) == []
    assert "auto_map" not in json.loads((tmp_path / "saved" / "config.json").read_text())


def test_with_slimbert_the_code_in_the_folder_is_not_run(tmp_path):
    model = tiny_compact()
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "saved", with_code=True)
    for path in (tmp_path / "saved").glob("*.py"):
        path.write_text("raise SystemExit('this must not run')")
    loaded = load_checkpoint(tmp_path / "saved").model
    assert type(loaded) is type(model)
    assert largest_gap(model(**tiny_batch()), loaded(**tiny_batch())) == 0


def test_saved_again_without_code_nothing_points_to_code(tmp_path):
    save_checkpoint(tiny_compact(), tiny_tokenizer(), tmp_path / "saved", with_code=True)
    checkpoint = load_checkpoint(tmp_path / "saved")
    save_checkpoint(checkpoint.model, checkpoint.tokenizer, tmp_path / "again")
    assert list((tmp_path / "again").glob("*.py")) == []
    assert "auto_map" not in json.loads((tmp_path / "again" / "config.json").read_text())
