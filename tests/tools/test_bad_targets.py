"""Where nothing can be written, a command says so before it works for minutes, and leaves nothing."""

from __future__ import annotations

import pytest

from tests.read_only import read_only
from tests.tools.conftest import RUN
from tests.tools.test_bad_input import refused, snapshot

TEXTS = ("--data", "reviews.csv")
TRAINED = ("--task", "text-classification", *TEXTS)
COMMANDS = {
    "run": (*RUN, "--out", "new/out"),
    "finetune": ("finetune", "my-bert", *TRAINED, "--out", "new/out"),
    "prune": ("prune", "my-bert", *TEXTS, "--speedup", "2", "--out", "new/out"),
    "prune with training": (
        "prune", "my-bert", *TRAINED, "--method", "block-movement", "--density", "0.5", "--out", "new/out",
    ),
    "fill": ("fill", "my-bert", "--teacher", "my-bert", *TRAINED, "--out", "new/out"),
    "export": ("export", "my-bert", "--out", "new/out"),
    "export to an engine": ("export", "my-bert", "--to", "tensorrt-rtx", "--out", "new/out"),
    "export to triton": ("export", "my-bert", "--to", "triton", "--out", "new/out"),
    "bench": ("bench", "my-bert", "my-bert", "--json", "new/out.json"),
    "bench page": ("bench", "my-bert", "my-bert", "--html", "new/out.html"),
    "bench tables": ("bench", "my-bert", "my-bert", "--markdown", "new/out.md"),
    "bench table": ("bench", "table", "my-bert", "--out", "new/out.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_read_only_target_is_refused_before_the_work(project, slimbert, monkeypatch, name):
    monkeypatch.setattr("pruning.atomic.TemporaryFile", read_only)
    before = snapshot(project)
    code, out, err = slimbert(*COMMANDS[name])
    assert "takes no files (Read-only file system). Choose another place." in refused((code, out, err))
    assert len(err.splitlines()) <= 2  # no work was begun beside saying where to
    assert snapshot(project) == before
    assert not (project / "new").exists()


def test_a_folder_below_a_file_is_refused(project, slimbert):
    assert "reviews.csv takes no files (Not a directory)" in refused(
        slimbert("export", "my-bert", "--out", "reviews.csv/out")
    )
