"""The training core: its plan, its checks, and that it trains compact models and stays quiet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel, TrainingArguments

from pruning.batching import encode
from pruning.config import CompactBertConfig
from pruning.errors import InputError
from pruning.heads import HEAD_CLASSES
from pruning.tasks.text_classification import ClassificationObjective
from pruning.training import OneDeviceArguments, TrainingOptions, batch_plan, newest_state, train
from tests.pruning.compact import tiny_compact
from tests.tiny import VOCAB, randomise, tiny_bert, tiny_tokenizer

TEXTS = ("a cat sat", "the dog", "a bird flew under the house", "happy", "sad dog ran", "big red tree")
FAST = TrainingOptions(epochs=3, batch_size=2, learning_rate=1e-3, cpu=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices on many threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def objective(targets: tuple[float, ...] = (0, 1, 0, 1, 0, 1)) -> ClassificationObjective:
    return ClassificationObjective(encode(tiny_tokenizer(), TEXTS), torch.tensor(targets))


def test_plan_has_every_example_once_per_epoch_in_another_order() -> None:
    plan = batch_plan(objective(), FAST)
    epochs = [[index for batch in plan[i : i + 3] for index in batch] for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert plan == batch_plan(objective(), FAST)
    assert plan != batch_plan(objective(), TrainingOptions(epochs=3, batch_size=2, seed=1))


@pytest.mark.parametrize(("visible", "used"), [(0, 0), (1, 1), (4, 1)])
def test_a_batch_is_never_split_over_several_gpus(
    visible: int, used: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda arguments: visible))
    arguments = OneDeviceArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=8)
    assert arguments.n_gpu == used
    assert arguments.train_batch_size == 8


def test_training_changes_the_model_in_place_and_reports_every_step(tmp_path: Path) -> None:
    model = tiny_bert(num_labels=2)
    before = model.classifier.weight.detach().clone()
    seen: list[tuple[int, int, float]] = []
    run = train(model, objective(), FAST, tmp_path, on_step=lambda *report: seen.append(report))
    assert [(step, total) for step, total, _ in seen] == [(step, 9) for step in range(1, 10)]
    assert (run.steps, run.last_loss) == (9, seen[-1][2])
    assert not torch.equal(before, model.classifier.weight)
    assert not model.training


def test_states_are_stored_per_epoch_and_only_the_newest_stays(tmp_path: Path) -> None:
    train(tiny_bert(num_labels=2), objective(), FAST, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-9"]
    assert newest_state(tmp_path) == tmp_path / "checkpoint-9"
    assert (tmp_path / "checkpoint-9" / "model.safetensors").is_file()


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, second = tiny_bert(num_labels=2), tiny_bert(num_labels=2)
    train(first, objective(), FAST, tmp_path)
    run = train(second, objective(), FAST, tmp_path)
    assert run.last_loss is None
    assert torch.equal(first.classifier.weight, second.classifier.weight)


def test_compact_model_with_empty_sublayers_trains(tmp_path: Path) -> None:
    config = CompactBertConfig(
        vocab_size=len(VOCAB),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        layer_num_heads=[2, 0, 4],
        layer_intermediate_sizes=[0, 7, 24],
        max_position_embeddings=40,
        num_labels=2,
    )
    model = HEAD_CLASSES["sequence-classification"](config)
    randomise(model, seed=0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train(model, objective(), FAST, tmp_path)
    for name in ("bert.encoder.layer.0.output.dense.bias", "bert.encoder.layer.1.attention.output.dense.bias"):
        assert not torch.equal(before[name], dict(model.named_parameters())[name])


def test_training_writes_nothing_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny_bert(num_labels=2)
    capfd.readouterr()
    train(model, objective(), FAST, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_weight_decay_spares_biases_and_layer_norm(tmp_path: Path) -> None:
    model = tiny_bert(num_labels=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.classifier.weight.zero_()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    bias = model.classifier.bias.item()
    options = TrainingOptions(epochs=1, batch_size=6, learning_rate=1e-2, weight_decay=0.5, warmup_fraction=0, cpu=True)
    train(model, objective((bias,) * 6), options, tmp_path)  # no gradient: only the decay acts
    after = dict(model.named_parameters())
    name = "bert.encoder.layer.0.output."
    torch.testing.assert_close(after[name + "dense.weight"], before[name + "dense.weight"] * (1 - 0.005))
    assert torch.equal(after[name + "dense.bias"], before[name + "dense.bias"])
    assert torch.equal(after[name + "LayerNorm.weight"], before[name + "LayerNorm.weight"])


def test_accumulated_passes_are_one_step(tmp_path: Path) -> None:
    """Two passes of three examples move the weights as one of six does; dropout is off, order plays no part."""
    trained = []
    for name, batch_size, accumulate in (("whole", 6, 1), ("halves", 3, 2)):
        model = tiny_bert(num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        options = TrainingOptions(epochs=2, batch_size=batch_size, accumulate=accumulate, learning_rate=1e-3, cpu=True)
        run = train(model, objective(), options, tmp_path / name)
        assert run.steps == 2
        trained.append(dict(model.named_parameters()))
    start = dict(tiny_bert(num_labels=2).named_parameters())
    for name, weight in trained[0].items():
        if name.endswith("key.bias"):  # shifts every score of a row alike: its gradient is rounding noise
            continue
        moved, difference = (weight - start[name]).abs().max(), (weight - trained[1][name]).abs().max()
        assert difference <= 0.05 * moved, name


def test_frozen_word_embeddings_stay_and_thaw(tmp_path: Path) -> None:
    model = tiny_bert(num_labels=2)
    words = model.bert.embeddings.word_embeddings.weight
    before, positions = words.detach().clone(), model.bert.embeddings.position_embeddings.weight.detach().clone()
    options = TrainingOptions(epochs=1, batch_size=2, learning_rate=1e-3, freeze_word_embeddings=True, cpu=True)
    train(model, objective(), options, tmp_path)
    assert torch.equal(words, before)
    assert not torch.equal(model.bert.embeddings.position_embeddings.weight, positions)
    assert words.requires_grad


@pytest.mark.parametrize("build", [tiny_bert, tiny_compact])
def test_without_dropout_a_model_trains_as_one_that_has_none(
    tmp_path: Path, build: Callable[..., PreTrainedModel]
) -> None:
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    models = {"off": build(num_labels=2), "none": build(num_labels=2, **none), "on": build(num_labels=2)}
    for name, model in models.items():
        train(model, objective(), replace(FAST, dropout=name != "off"), tmp_path / name)
    weights = {name: torch.nn.utils.parameters_to_vector(model.parameters()) for name, model in models.items()}
    assert torch.equal(weights["off"], weights["none"])
    assert not torch.allclose(weights["off"], weights["on"])
    rates = {module.p for module in models["off"].modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.1}


def test_a_diverging_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the loss became nan at step 1"):
        train(tiny_bert(num_labels=1), objective((float("nan"),) * 6), FAST, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1; got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1; got 0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps must be at least 1; got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0; got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0; got nan"),
        ({"warmup_fraction": 1.0}, "warmup_fraction must be in"),
    ],
)
def test_options_are_checked(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingOptions(**changes)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_training_on_a_gpu_uses_bf16_where_it_can(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = tiny_bert(num_labels=2)
    train(model, objective(), TrainingOptions(epochs=1, batch_size=2), tmp_path)
    assert model.device.type == "cuda"
    assert model.dtype == torch.float32
