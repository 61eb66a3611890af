"""Fine-tuning end to end on a tiny model: what is learned, what is written, and exact resume."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pruning.batching import predict_from_model
from pruning.checkpoint import load_checkpoint, save_checkpoint
from pruning.errors import InputError
from pruning.finetune import FinetuneOptions, FinetuneResult, finetune, read_result
from pruning.tasks.registry import task_named
from pruning.tasks.source import Splits
from pruning.tasks.task import settings_from_config
from pruning.tasks.text_data import Label, TextData
from pruning.training import OnStep, TrainingOptions
from tests.tiny import tiny_bert, tiny_tokenizer

ANIMALS = ("cat", "dog", "bird")
NOUNS = ("cat", "dog", "bird", "house", "tree", "mat")
FAST = TrainingOptions(epochs=2, batch_size=4, learning_rate=3e-3, checkpoint_steps=2, cpu=True)


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices on many threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare encoder with dropout, so that resuming has a random state to restore."""
    folder = tmp_path_factory.mktemp("encoder") / "base"
    save_checkpoint(tiny_bert("encoder", std=0.1), tiny_tokenizer(), folder)
    return folder


@pytest.fixture(scope="module")
def whole(base: Path) -> FinetuneResult:
    """An undisturbed run: not to be written to."""
    return finetune(options(base, base.parent / "whole"), sentiment())


@pytest.fixture
def finished(whole: FinetuneResult, out: Path) -> FinetuneResult:
    """A copy of that run, in ``out``."""
    shutil.copytree(whole.checkpoint, out)
    return replace(whole, checkpoint=out)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def sentiment(good: Label = "good", bad: Label = "bad") -> Splits:
    rows = [(f"the {noun} is {mood}", label) for noun in NOUNS for mood, label in (("happy", good), ("sad", bad))]
    data = TextData(tuple(text for text, _ in rows), labels=tuple(label for _, label in rows))
    return Splits(data, data, "evaluated on the training data")


def similarity() -> Splits:
    rows = [(a, b, 5.0 if (a in ANIMALS) == (b in ANIMALS) else 1.0) for a, b in combinations(NOUNS, 2)]
    first, second, scores = zip(*rows, strict=True)
    data = TextData(first, second, scores)
    return Splits(data, data, "evaluated on the training data")


def options(base: Path, out: Path, **changes: object) -> FinetuneOptions:
    values = {"model": str(base), "task": "text-classification", "out": out, "training": FAST}
    return FinetuneOptions(**(values | changes))  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def stop_after(step: int) -> OnStep:
    def on_step(number: int, total: int, loss: float) -> None:
        if number == step:
            raise StoppedError

    return on_step


def test_classifier_learns_and_carries_its_labels(base: Path, out: Path) -> None:
    seen: list[tuple[int, int]] = []
    training = replace(FAST, epochs=12, checkpoint_steps=None)
    result = finetune(
        options(base, out, training=training), sentiment(), on_step=lambda step, total, loss: seen.append((step, total))
    )
    assert seen == [(step, 36) for step in range(1, 37)]
    assert (result.metric.name, result.metric.n, result.steps) == ("accuracy", 12, 36)
    assert result.metric.value == 1.0
    assert load_checkpoint(result.checkpoint).model.config.id2label == {0: "bad", 1: "good"}


def test_result_folder_is_a_checkpoint_and_its_record(whole: FinetuneResult) -> None:
    assert not (whole.checkpoint / ".training").exists()
    assert read_result(whole.checkpoint) == whole
    record = json.loads((whole.checkpoint / "finetune.json").read_text())
    assert record["request"]["training"]["batch_size"] == 4
    assert record["result"]["note"] == "evaluated on the training data"


def test_encoder_learns_similarity_from_scored_pairs(base: Path, out: Path) -> None:
    task, data = task_named("feature-extraction"), similarity()
    start = load_checkpoint(base)
    settings = settings_from_config(start.model.config)
    before = task.evaluate(predict_from_model(start.model), start.tokenizer, data.evaluation, settings)
    training = replace(FAST, epochs=8, checkpoint_steps=None)
    result = finetune(options(base, out, task=task.name, training=training), data)
    assert result.metric.name == "spearman"
    assert result.metric.value > max(0.8, before.metric.value + 0.2)
    assert type(load_checkpoint(result.checkpoint).model).__name__ == "BertModel"


def test_regression_follows_from_float_labels(base: Path, out: Path) -> None:
    result = finetune(options(base, out), sentiment(0.9, 0.1))
    assert result.metric.name == "spearman"
    assert load_checkpoint(result.checkpoint).model.config.num_labels == 1


def test_integer_labels_name_the_classes_of_a_seeded_subset(base: Path, out: Path) -> None:
    result = finetune(options(base, out, max_train_examples=8), sentiment(7, 3))
    assert result.labels == ("3", "7")
    assert (result.train_examples, result.steps) == (8, 4)


@pytest.mark.parametrize(("stop", "steps"), [(1, [1, 2, 3, 4, 5, 6]), (3, [3, 4, 5, 6]), (6, [5, 6])])
def test_stopped_and_resumed_run_equals_an_undisturbed_one(
    base: Path, out: Path, whole: FinetuneResult, stop: int, steps: list[int]
) -> None:
    with pytest.raises(StoppedError):
        finetune(options(base, out), sentiment(), on_step=stop_after(stop))
    seen: list[int] = []
    resumed = finetune(
        options(base, out), sentiment(), on_step=lambda step, total, loss: seen.append(step), resume=True
    )
    assert seen == steps  # from the newest state on: one is stored every two steps
    expected, got = weights(whole.checkpoint), weights(resumed.checkpoint)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (resumed.metric, resumed.last_loss) == (whole.metric, whole.last_loss)


def test_resume_ignores_a_state_that_was_cut_short(base: Path, out: Path) -> None:
    with pytest.raises(StoppedError):
        finetune(options(base, out), sentiment(), on_step=stop_after(5))
    (out / ".training" / "checkpoint-5").mkdir()
    (out / ".training" / "checkpoint-5" / "model.safetensors").write_bytes(b"cut")
    seen: list[int] = []
    finetune(options(base, out), sentiment(), on_step=lambda step, total, loss: seen.append(step), resume=True)
    assert seen == [5, 6]


def test_resume_of_a_finished_run_returns_its_result(base: Path, finished: FinetuneResult) -> None:
    again = finetune(options(base, finished.checkpoint), sentiment(), resume=True, on_step=stop_after(1))
    assert again == finished


def test_refuses_a_folder_with_another_run(base: Path, finished: FinetuneResult) -> None:
    before = weights(finished.checkpoint)
    with pytest.raises(InputError, match="already holds this fine-tuning run"):
        finetune(options(base, finished.checkpoint), sentiment())
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(finished.checkpoint).items())


def test_refuses_to_resume_with_other_settings(base: Path, finished: FinetuneResult) -> None:
    changed = options(base, finished.checkpoint, training=replace(FAST, seed=1))
    with pytest.raises(InputError, match=r"other settings \(data_sha256, training\)"):
        finetune(changed, sentiment("fine"), resume=True)


def test_refuses_a_folder_of_something_else(base: Path, out: Path) -> None:
    shutil.copytree(base, out)
    with pytest.raises(InputError, match="holds no fine-tuning run"):
        finetune(options(base, out), sentiment(), resume=True)


def test_refuses_a_file_as_output_folder(base: Path, out: Path) -> None:
    out.write_text("mine")
    with pytest.raises(InputError, match="holds no fine-tuning run"):
        finetune(options(base, out), sentiment())
    assert out.read_text() == "mine"


@pytest.mark.parametrize("record", ['{"result": {}}', "{", '{"result": {"metric": 1, "labels": []}}'])
def test_refuses_a_damaged_record(tmp_path: Path, record: str) -> None:
    (tmp_path / "finetune.json").write_text(record)
    with pytest.raises(InputError, match="damaged"):
        read_result(tmp_path)


def test_refuses_unusable_evaluation_data_before_training(base: Path, out: Path) -> None:
    data = replace(sentiment(), evaluation=TextData(("a cat",), labels=("neutral",)))
    with pytest.raises(InputError, match="does not know the labels 'neutral'"):
        finetune(options(base, out), data)
    assert not out.exists()


def test_a_refused_request_leaves_no_folder_behind(base: Path, out: Path) -> None:
    with pytest.raises(InputError, match="is not a checkpoint folder"):
        finetune(options(base, out, model="/missing/model/folder"), sentiment())
    with pytest.raises(InputError, match="at least 1 row; got 0"):
        finetune(options(base, out, max_train_examples=0), sentiment())
    assert not out.exists()


def test_refuses_unscored_data_for_an_encoder(base: Path, out: Path) -> None:
    with pytest.raises(InputError, match="no pairs"):
        finetune(options(base, out, task="feature-extraction"), sentiment())
