"""A family of models from one run, and the same family after any stop."""

import json
from dataclasses import replace

import pytest
import torch

from pruning.arch import ArchSpec
from pruning.batching import encode, predict_from_model
from pruning.calibration import calibration_from_texts
from pruning.checkpoint import Checkpoint, load_checkpoint
from pruning.distillation import DistillationOptions
from pruning.divergence import divergence
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.methods import gradual
from pruning.methods.gradual import GradualOptions, Lesson, Round, prune_gradually
from pruning.methods.oneshot import OneshotOptions
from pruning.training import TrainingOptions
from tests.tiny import WORDS, tiny_bert, tiny_tokenizer

NO_DROPOUT = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
ROUNDS = (
    Round("small", ArchSpec.from_lists(16, 4, [3, 4, 2], [16, 24, 8])),
    Round("smaller", ArchSpec.from_lists(16, 4, [2, 1, 0], [8, 0, 8])),
)
OPTIONS = GradualOptions(
    rounds=ROUNDS,
    oneshot=OneshotOptions(target=ROUNDS[-1].target, ffn_multiple=8),
    training=TrainingOptions(epochs=6, batch_size=8, learning_rate=2e-4, checkpoint_steps=2, cpu=True),
    distillation=DistillationOptions(),
)


def texts(count, seed):
    generator = torch.Generator().manual_seed(seed)
    words = WORDS.split()
    picks = torch.randint(0, len(words), (count, 7), generator=generator)
    return [" ".join(words[i] for i in row) for row in picks.tolist()]


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    dense = Checkpoint(NO_DROPOUT, tiny_tokenizer(), tmp_path_factory.mktemp("dense"))
    calibration = calibration_from_texts(dense.tokenizer, texts(60, 1), examples=32)
    return dense, Lesson(tiny_bert(), encode(dense.tokenizer, texts(40, 2))), calibration


def run(setting, out, options=OPTIONS, progress=lambda phase, done, total, what: None):
    dense, lesson, calibration = setting
    return prune_gradually(dense, lesson, calibration, options, out, progress)


@pytest.fixture(scope="module")
def family(setting, tmp_path_factory):
    out = tmp_path_factory.mktemp("family") / "out"
    return out, run(setting, out)


def weights(folder):
    return load_checkpoint(folder).model.state_dict()


def test_every_round_leaves_a_checkpoint_of_its_shape(setting, family):
    out, steps = family
    assert [step.name for step in steps] == ["small", "smaller"]
    for step, item in zip(steps, ROUNDS, strict=True):
        found = load_checkpoint(step.folder)
        assert arch_from_model(found.model) == step.arch == item.target
        measured = divergence(
            predict_from_model(setting[1].teacher), predict_from_model(found.model), setting[2].report
        )
        assert measured == pytest.approx(step.divergence, rel=1e-6)
        assert step.steps == 30
        assert {"score", "reconstruct", "train"} <= set(step.seconds)
    assert sorted(path.name for path in out.iterdir()) == ["request.json", "small", "smaller"]


def test_training_helps(family):
    kept = [step for step in family[1] if step.kept_training]
    assert kept
    assert all(step.divergence < step.divergence_pruned for step in kept)


def test_training_that_does_harm_is_taken_back(setting, tmp_path):
    wild = replace(OPTIONS, rounds=ROUNDS[:1], training=replace(OPTIONS.training, learning_rate=3.0, epochs=1))
    (step,) = run(setting, tmp_path / "out", wild)
    assert (step.kept_training, step.divergence) == (False, step.divergence_pruned)
    assert step.steps == 5


def test_a_finished_run_is_read_and_not_repeated(setting, family, monkeypatch):
    monkeypatch.setattr(gradual, "prune_oneshot", None)
    monkeypatch.setattr(gradual, "train", None)
    assert run(setting, family[0]) == family[1]


@pytest.mark.parametrize("stop_at", ["small: train", "smaller: reconstruct", "smaller: train"])
def test_a_stopped_run_ends_like_an_uninterrupted_one(setting, family, tmp_path, stop_at):
    def stop(phase, done, total, _what):
        if phase.startswith(stop_at) and done >= min(3, total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(setting, tmp_path / "out", progress=stop)
    steps = run(setting, tmp_path / "out")
    for step, whole in zip(steps, family[1], strict=True):
        assert (step.name, step.arch, step.divergence) == (whole.name, whole.arch, whole.divergence)
        expected = weights(whole.folder)
        assert all(torch.equal(value, expected[name]) for name, value in weights(step.folder).items())


def test_a_run_extended_by_a_round_ends_like_one_that_asked_for_it_at_once(setting, family, tmp_path):
    first = run(setting, tmp_path / "out", replace(OPTIONS, rounds=ROUNDS[:1]))
    with pytest.raises(InputError, match="already holds this gradual run"):
        run(setting, tmp_path / "out", replace(OPTIONS, resume=False))
    steps = run(setting, tmp_path / "out")
    assert steps[:1] == first
    expected = weights(family[1][1].folder)
    assert all(torch.equal(value, expected[name]) for name, value in weights(steps[1].folder).items())
    assert run(setting, tmp_path / "out") == steps


@pytest.mark.parametrize("rounds", [ROUNDS[1:], (replace(ROUNDS[0], name="other"), ROUNDS[1])], ids=["less", "other"])
def test_other_rounds_than_those_begun_are_another_run(setting, family, rounds):
    with pytest.raises(InputError, match=r"holds a gradual run with other settings \(rounds\)"):
        run(setting, family[0], replace(OPTIONS, rounds=rounds))


def test_other_settings_are_another_run(setting, family):
    options = replace(OPTIONS, distillation=DistillationOptions(hidden=0.2))
    with pytest.raises(InputError, match=r"holds a gradual run with other settings \(distillation\)"):
        run(setting, family[0], options)


def test_other_data_are_another_run(setting, family):
    with pytest.raises(InputError, match=r"holds a gradual run with other settings \(data_sha256\)"):
        run(setting, family[0], replace(OPTIONS, origin={"data_sha256": "f00"}))


def test_a_run_is_continued_only_where_that_is_asked_for(setting, family):
    with pytest.raises(InputError, match="already holds this gradual run"):
        run(setting, family[0], replace(OPTIONS, resume=False))


def test_folders_of_others_are_left_alone(setting, tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="exists and holds no gradual run"):
        run(setting, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_an_unreadable_request_is_refused(setting, tmp_path, content):
    (tmp_path / "request.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"request.json cannot be read"):
        run(setting, tmp_path)


def test_a_damaged_record_is_named(setting, family, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "request.json").write_text((family[0] / "request.json").read_text(), encoding="utf-8")
    (out / "small").mkdir()
    (out / "small" / "gradual.json").write_text(json.dumps({"name": "small"}), encoding="utf-8")
    with pytest.raises(InputError, match=r"gradual.json is damaged .* Remove the folder"):
        run(setting, out)


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(setting, tmp_path):
    dense, lesson, calibration = setting
    other = replace(lesson, teacher=tiny_bert(num_hidden_layers=4))
    options = replace(OPTIONS, distillation=DistillationOptions(hidden=1.0))
    with pytest.raises(InputError, match="hidden states are matched one to one"):
        prune_gradually(dense, other, calibration, options, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a/b",), ("..",)], ids=str)
def test_rounds_need_names_that_can_be_folders(names):
    with pytest.raises(InputError, match="needs rounds with different names that can be folders"):
        replace(OPTIONS, rounds=tuple(Round(name, ROUNDS[0].target) for name in names))
