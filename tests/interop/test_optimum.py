"""The same folder in optimum's ORTModel classes, and optimum's own exporter on a compact checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from transformers import AutoTokenizer

from exporter.deploy import write_deploy
from exporter.optimum_config import OPTIMUM_TASKS, register_optimum_config
from pruning.batching import encode
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from tests.interop.folders import KINDS, TEXTS, answers, model_of
from tests.tiny import tiny_tokenizer

ort_models = pytest.importorskip("optimum.onnxruntime", reason="optimum is for the interop environment")

pytestmark = pytest.mark.filterwarnings("ignore")  # what optimum and its libraries warn about is not ours to change

CLASSES = {
    "sequence-classification": ort_models.ORTModelForSequenceClassification,
    "question-answering": ort_models.ORTModelForQuestionAnswering,
    "encoder": ort_models.ORTModelForFeatureExtraction,
}
TASKS = {
    "sequence-classification": "text-classification",
    "question-answering": "question-answering",
    "token-classification": "token-classification",
    "masked-lm": "fill-mask",
    "encoder": "feature-extraction",
}


@pytest.mark.parametrize("head", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"subfolder": "onnx", "file_name": "model.onnx"}], ids=["found", "named"])
def test_the_deploy_folder_answers_like_pytorch(tmp_path, kind, head, options):
    model = model_of(kind, head)
    write_deploy(model, tiny_tokenizer(), tmp_path / "deploy")
    loaded = CLASSES[head].from_pretrained(tmp_path / "deploy", **options)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "deploy")(TEXTS, padding=True, return_tensors="pt")
    found = loaded(**tokens)
    for name, expected in answers(model).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("head", TASKS)
def test_optimums_exporter_takes_a_compact_checkpoint(tmp_path, head):
    from optimum.exporters.onnx import export  # noqa: PLC0415
    from optimum.exporters.tasks import TasksManager  # noqa: PLC0415

    register_optimum_config()
    register_optimum_config()
    model = model_of("compact", head)
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact")
    loaded = load_checkpoint(tmp_path / "compact").model
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model_type="compact_bert", task=TASKS[head], library_name="transformers"
    )
    file = Path(tmp_path, "model.onnx")
    export(loaded, constructor(loaded.config), file, opset=18)
    check_answers(file, model)


def check_answers(file, model):
    """The file answers like the model, by the same names."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    batch = encode(tiny_tokenizer(), TEXTS).padded([0, 1, 2])
    values = session.run(None, {value.name: batch[value.name].numpy() for value in session.get_inputs()})
    found = dict(zip([value.name for value in session.get_outputs()], values, strict=True))
    assert found.keys() == answers(model).keys() - {"pooler_output"}
    for name, value in found.items():
        torch.testing.assert_close(torch.from_numpy(value), answers(model)[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("head", ["sequence-classification", "question-answering"])
@pytest.mark.parametrize("registered", [True, False])
def test_main_export_takes_a_compact_checkpoint_that_carries_its_code(tmp_path, monkeypatch, head, registered):
    from optimum.exporters.onnx import main_export  # noqa: PLC0415
    from optimum.exporters.onnx.model_configs import BertOnnxConfig  # noqa: PLC0415
    from optimum.exporters.tasks import TasksManager  # noqa: PLC0415

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    model, options = model_of("compact", head), {"task": TASKS[head], "library_name": "transformers"}
    save_checkpoint(model, tiny_tokenizer(), tmp_path / "compact", with_code=True)
    monkeypatch.delitem(TasksManager._SUPPORTED_MODEL_TYPE, "compact_bert", raising=False)
    if registered:
        register_optimum_config()
    else:
        options["custom_onnx_configs"] = {"model": BertOnnxConfig(model.config, task=TASKS[head])}
    main_export(tmp_path / "compact", tmp_path / "exported", trust_remote_code=True, **options)
    check_answers(tmp_path / "exported" / "model.onnx", model)


def test_every_task_that_is_registered_is_tested():
    assert sorted(TASKS.values()) == sorted(OPTIMUM_TASKS)


def test_without_its_onnx_half_optimum_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx.model_configs", None)
    with pytest.raises(InputError, match=r"slimbert\[interop\]"):
        register_optimum_config()
