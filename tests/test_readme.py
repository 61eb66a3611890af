"""The README's code runs, in order, in one folder; its `make` targets and links exist."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path

import pytest

from pruning.checkpoint import save_checkpoint
from tests.tiny import tiny_bert, tiny_tokenizer
from tests.tools.conftest import write_reviews
from tools.cli import app, exit_code_from

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tiny_bert(max_position_embeddings=128), tiny_tokenizer(), tmp_path / "my-bert")
    write_reviews(tmp_path / "reviews.csv")
    counts = {"bash": 0, "python": 0}
    for language, code in BLOCK.findall(README):
        if language == "bash":
            for line in code.strip().splitlines():
                assert line.startswith("slimbert "), line
                assert exit_code_from(shlex.split(line)[1:]) == 0, (line, capsys.readouterr().err)
                counts["bash"] += 1
        elif language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
            counts["python"] += 1
    assert counts == {"bash": 5, "python": 3}


def test_console_blocks_name_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)$", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_python_example_is_short():
    longest = max((code for language, code in BLOCK.findall(README) if language == "python"), key=len)
    assert len([line for line in longest.splitlines() if line and not line.startswith(("from", "import"))]) < 15


def test_links_lead_somewhere():
    for name in ("README.md", "docs/how-it-works.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (ROOT / name).parent.joinpath(link).exists(), link


def test_named_files_exist():
    text = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    for name in re.findall(r"`((?:pruning|exporter|bench|tools)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name


def test_every_command_is_listed_and_no_other():
    listed = set(re.findall(r"^\| `slimbert (\w+)` \|", README, re.MULTILINE))
    assert listed == {command.name for command in (*app.registered_commands, *app.registered_groups)}
