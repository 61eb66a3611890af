"""The pruner in loops of all kinds: ours with exact resume, anybody's Trainer, and the whole method."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import Trainer, TrainingArguments

from pruning.batching import encode, predict_from_model
from pruning.checkpoint import Checkpoint
from pruning.distillation import Distillation, DistillationOptions
from pruning.errors import InputError
from pruning.introspect import inner_density
from pruning.methods.block_movement import MovementOptions, heads_kept_by, prune_by_movement
from pruning.movement.names import MaskFunction, Variant
from pruning.movement.pruner import PaperAim, attach
from pruning.movement.schedule import Schedule
from pruning.movement.training import MovementCallback, MovementTrainer, add_penalty_gradient, parameter_groups
from pruning.tasks.text_classification import ClassificationObjective
from pruning.training import TrainingOptions
from tests.pruning.movement.models import fine_bert, pruner_of, spec, spread_scores, weights_target
from tests.tiny import tiny_batch, tiny_tokenizer

TEXTS = ("a cat sat", "the dog", "a bird flew under the house", "happy", "sad dog ran", "big red tree")
FAST = TrainingOptions(epochs=4, batch_size=2, learning_rate=1e-3, checkpoint_steps=5, cpu=True, warmup_fraction=0)
TARGETS = torch.tensor([0, 1, 0, 1, 0, 1])


class StoppedError(Exception):
    """Stands for a kill."""


def dense():
    return Checkpoint(fine_bert(), tiny_tokenizer(), None)


def lesson():
    encodings = encode(tiny_tokenizer(), TEXTS)
    truth = ClassificationObjective(encodings, TARGETS)
    return Distillation(fine_bert(), encodings, DistillationOptions(logits=0.9, truth=0.1), truth)


def options(variant=Variant.HYBRID, function=MaskFunction.SIGMOID_THRESHOLD, **changes):
    values = {"aim": weights_target(0.5), "training": FAST, "fill_training": FAST, "score_learning_rate": 0.2}
    return MovementOptions(spec(variant, function), **(values | changes))


def weights_equal(a, b):
    pairs = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return all(name == other and torch.equal(x, y) for (name, x), (other, y) in pairs)


@pytest.mark.parametrize("function", [MaskFunction.SIGMOID_THRESHOLD, MaskFunction.L0])
@pytest.mark.parametrize("stop", [("prune", 3), ("prune", 8), ("fill", 7)])
def test_resumed_run_equals_an_undisturbed_one(tmp_path, stop, function):
    request = options(Variant.HYBRID_FILLED, function)
    whole = prune_by_movement(dense(), lesson(), request, tmp_path / "whole")

    def kill(phase, done, total, what):
        if (phase, done) == stop:
            raise StoppedError

    with pytest.raises(StoppedError):
        prune_by_movement(dense(), lesson(), request, tmp_path / "out", kill)
    resumed = prune_by_movement(dense(), lesson(), request, tmp_path / "out")
    assert weights_equal(whole.model, resumed.model)
    assert weights_equal(whole.unfilled, resumed.unfilled)
    assert whole.record == resumed.record


def test_the_record_tells_the_history_and_feeds_a_rewind(tmp_path):
    result = prune_by_movement(dense(), lesson(), options(), tmp_path)
    record = json.loads((tmp_path / "movement.json").read_text())
    assert record["density"] == pytest.approx(0.5, rel=0.03)
    assert [x["step"] for x in record["history"]] == list(range(13))
    assert record["inner_density"]["attention"] == inner_density(result.model)[0]
    kept = heads_kept_by(tmp_path)
    assert [len(heads) for heads in kept] == record["history"][-1]["heads"]
    again = replace(options(), spec=replace(spec(), rewind=kept))
    second = prune_by_movement(dense(), lesson(), again, tmp_path / "second")
    found = heads_kept_by(tmp_path / "second")
    assert all(set(old) <= set(new) for old, new in zip(kept, found, strict=True))
    assert second.model is not result.model


def test_filled_has_the_shape_of_hybrid_and_no_holes(tmp_path):
    result = prune_by_movement(dense(), lesson(), options(Variant.HYBRID_FILLED), tmp_path)
    assert inner_density(result.model) == (1.0, 1.0)
    assert inner_density(result.unfilled)[0] < 1
    assert result.model.config.layer_num_heads == result.unfilled.config.layer_num_heads


def test_progress_names_what_matters(tmp_path):
    seen = []
    prune_by_movement(dense(), lesson(), options(), tmp_path, lambda *report: seen.append(report))
    assert [report[:3] for report in seen] == [("prune", step, 12) for step in range(1, 13)]
    for word in ("density", "threshold", "lambda", "penalty", "heads", "neurons"):
        assert word in seen[-1][3]


class Rows(torch.utils.data.Dataset):
    def __init__(self):
        self.batch = tiny_batch(rows=8) | {"labels": torch.arange(8) % 2}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {name: tensor[index] for name, tensor in self.batch.items()}


def arguments(folder, **changes):
    values = {
        "output_dir": str(folder),
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_steps": 5,
        "logging_steps": 4,
        "learning_rate": 1e-3,
    }
    return TrainingArguments(**(values | changes))


def attached():
    return attach(fine_bert(), spec(), Schedule(12, 1, 4), weights_target(0.5))


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_trainer_subclass_prunes_stores_and_resumes(tmp_path, capsys, micro_batches):
    changes = {"gradient_accumulation_steps": micro_batches, "per_device_train_batch_size": 4 // micro_batches}
    pruner = attached()
    trainer = MovementTrainer(
        pruner.model, arguments(tmp_path, **changes), train_dataset=Rows(), eval_dataset=Rows(), pruner=pruner
    )
    trainer.train()
    pruner.finish()
    assert pruner.record(12).density == pytest.approx(0.5, rel=0.03)
    assert trainer.evaluate()["eval_threshold"] == pruner.threshold > 0
    assert {"threshold", "penalty_lambda", "density"} <= set(trainer.state.log_history[0]) or capsys.readouterr().out
    again = attached()
    resumed = MovementTrainer(again.model, arguments(tmp_path, **changes), train_dataset=Rows(), pruner=again)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    again.finish()
    assert again.history == pruner.history
    assert weights_equal(again.model, pruner.model)


def test_callback_alone_prunes_in_a_foreign_trainer(tmp_path, capsys):
    pruner = attached()
    optimiser = torch.optim.AdamW(parameter_groups(pruner.model, pruner), lr=1e-3)
    records = []
    trainer = Trainer(
        pruner.model,
        arguments(tmp_path, save_strategy="no"),
        train_dataset=Rows(),
        optimizers=(optimiser, None),
        callbacks=[MovementCallback(pruner, on_record=records.append)],
    )
    trainer.train()
    pruner.finish()
    assert pruner.record(12).density == pytest.approx(0.5, rel=0.03)
    assert [record.step for record in records] == list(range(12))


def test_penalty_gradient_equals_the_penalty_in_the_loss():
    inside, after = (pruner_of(aim=PaperAim(7.0)) for _ in range(2))
    for pruner, in_loss in ((inside, True), (after, False)):
        spread_scores(pruner)
        pruner.step(15)
        loss = pruner.model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss
        (loss + pruner.penalty() if in_loss else loss).backward()
    add_penalty_gradient(after)
    for a, b in zip(inside.scores, after.scores, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_bf16_autocast_trains_and_keeps_fp32_scores():
    pruner = pruner_of()
    pruner.step(10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pruner.model(**tiny_batch(), labels=torch.tensor([0, 1, 0, 1])).loss
    (loss + pruner.penalty()).backward()
    assert all(score.grad is not None and score.grad.dtype == torch.float32 for score in pruner.scores)
    assert predict_from_model(pruner.compact())(tiny_batch())["logits"].isfinite().all()


def test_a_folder_without_a_record_is_no_earlier_run(tmp_path):
    with pytest.raises(InputError, match=r"movement.json is no record of block movement pruning"):
        heads_kept_by(tmp_path)


def test_the_rate_of_the_scores_is_checked():
    with pytest.raises(InputError, match="the learning rate of the scores must be above 0; got 0"):
        options(score_learning_rate=0.0)
