"""What identifies a model on disk, whatever kind of file it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.facts import artifact_facts
from pruning.arch import ArchSpec
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.introspect import arch_from_model


def test_checkpoint_and_export_have_the_same_architecture(dense: Path, deployed: Path) -> None:
    truth = arch_from_model(load_checkpoint(dense).model)
    found = [artifact_facts(path) for path in (dense, deployed, deployed / "onnx" / "model.onnx")]
    assert [ArchSpec.from_dict(facts.arch) for facts in found] == [truth] * 3
    assert found[1] == found[2]
    assert found[0].sha256 != found[1].sha256
    assert [facts.first_token for facts in found] == [True] * 3
    assert found[1].bytes == (deployed / "onnx" / "model.onnx").stat().st_size


def test_nothing_to_run_has_no_facts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot run"):
        artifact_facts(tmp_path)
