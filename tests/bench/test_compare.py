"""The whole measurement on tiny models: what comes out, not how fast it was."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from bench.cell import BASELINE, CONTROL
from bench.compare import compare
from bench.inputs import input_batches, random_batches
from bench.result import BenchResult, BenchSettings
from pruning.checkpoint import save_checkpoint
from pruning.errors import InputError
from tests.tiny import VOCAB, tiny_bert, tiny_tokenizer

QUICK = BenchSettings(runtimes=("ort-cpu",), seqs=(8,), blocks=3, calls=2, warmup_seconds=0.0)


def test_every_cell_holds_every_contestant_on_every_clock(dense: Path, shallow: Path) -> None:
    settings = BenchSettings(("torch-cpu", "ort-cpu"), (1, 2), (8,), blocks=3, calls=2, warmup_seconds=0.0)
    result = compare(dense, [shallow], settings)
    assert [str(cell) for cell in result.cells] == [
        f"{runtime}, batch {batch}, sequence 8" for runtime in settings.runtimes for batch in settings.batches
    ]
    for cell in result.cells:
        (repetition,) = cell.repetitions
        assert set(repetition.samples_ms) == {"wall", "thread"}
        for by_key in repetition.samples_ms.values():
            assert list(by_key) == [BASELINE, CONTROL, "candidate-1"]
            assert all(len(blocks) == 3 and {len(block) for block in blocks} == {2} for blocks in by_key.values())
        assert set(cell.dtypes.values()) == {"fp32"}
    assert [model.label for model in result.models] == ["dense", "shallow"]
    assert result.inputs == "random token ids"
    assert BenchResult.from_dict(result.to_dict()) == result


def test_kinds_of_artifact_can_be_mixed_and_text_can_be_given(dense: Path, deployed: Path) -> None:
    inputs = partial(input_batches, tiny_tokenizer(), ["the cat sat on the mat"])
    result = compare(dense, [deployed, deployed / "onnx" / "model.onnx"], QUICK, inputs=inputs)
    assert [model.label for model in result.candidates] == ["deploy", "model.onnx"]
    assert result.inputs == "token ids of real text"


def test_models_of_one_name_are_told_apart_by_path(dense: Path, tmp_path: Path) -> None:
    twin = tmp_path / "dense"
    shutil.copytree(dense, twin)
    result = compare(dense, [twin], QUICK)
    assert [model.label for model in result.models] == [str(dense), str(twin)]


def test_progress_reaches_its_total(dense: Path, shallow: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    compare(dense, [shallow], QUICK, progress=lambda done, total, what: seen.append((done, total, what)))
    assert [done for done, _, _ in seen] == list(range(1, 7))
    assert {total for _, total, _ in seen} == {6}
    assert seen[-1][2] == "ort-cpu, batch 1, sequence 8: block 3 of 3"


def test_no_candidate_is_refused(dense: Path) -> None:
    with pytest.raises(InputError, match="name at least one candidate"):
        compare(dense, [], QUICK)


def test_a_sequence_beyond_the_positions_is_refused(dense: Path) -> None:
    settings = BenchSettings(seqs=(41,), blocks=2, warmup_seconds=0.0)
    with pytest.raises(InputError, match="sequence length 41 is beyond the 40 positions"):
        compare(dense, [dense], settings)


def test_ids_that_a_model_does_not_know_are_refused(dense: Path) -> None:
    with pytest.raises(InputError, match=f"a model knows only {len(VOCAB)} ids"):
        compare(dense, [dense], QUICK, inputs=partial(random_batches, len(VOCAB) + 500))


def test_random_ids_fit_the_smallest_vocabulary(dense: Path, tmp_path: Path) -> None:
    save_checkpoint(tiny_bert(vocab_size=64), tiny_tokenizer(), tmp_path / "wide")
    assert compare(tmp_path / "wide", [dense], QUICK).inputs == "random token ids"


def test_random_ids_need_a_vocabulary_size(deployed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(deployed, folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="vocabulary size of an ONNX file is unknown"):
        compare(folder, [folder], QUICK)
