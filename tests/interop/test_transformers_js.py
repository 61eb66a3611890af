"""The same folder in transformers.js under Node: outputs and labels of PyTorch, from local files alone."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from exporter.deploy import write_deploy
from tests.interop.folders import KINDS, LABELS, TEXTS, answers, model_of
from tests.tiny import tiny_tokenizer

NODE = shutil.which("node")
SCRIPT = Path(__file__).parent / "node" / "answers.mjs"
HEADS = ("sequence-classification", "question-answering", "encoder")

pytestmark = [
    pytest.mark.skipif(NODE is None, reason="node is not installed"),
    pytest.mark.skipif(
        not (SCRIPT.parent / "node_modules").is_dir(), reason="transformers.js is not installed: make node"
    ),
]


def test_outputs_and_labels_are_pytorchs(tmp_path):
    models = {f"{kind}-{head}": model_of(kind, head) for kind in KINDS for head in HEADS}
    for name, model in models.items():
        write_deploy(model, tiny_tokenizer(), tmp_path / name)
    folders = {name: name.partition("-")[2] for name in models}
    command = [NODE, str(SCRIPT), str(tmp_path), json.dumps({"folders": folders, "texts": TEXTS})]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, model in models.items():
        expected = answers(model)
        for output, values in expected.items():
            given = torch.tensor(found[name]["outputs"][output])
            torch.testing.assert_close(given, values, rtol=0, atol=1e-4)
        if "logits" in expected:
            best = expected["logits"].argmax(-1).tolist()
            assert found[name]["labels"] == [LABELS[index] for index in best]
