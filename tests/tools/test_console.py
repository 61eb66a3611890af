"""Progress where there is no terminal: long phases say where they are, short ones nothing."""

from __future__ import annotations

import pytest

from tools import console
from tools.console import Steps


@pytest.mark.parametrize(("total", "seconds_each", "lines"), [(100, 0.0, 10), (20, 0.0, 0), (20, 1.0, 8)])
def test_a_line_every_tenth_of_what_takes_long(capsys, monkeypatch, total, seconds_each, lines):
    clock = iter(range(1_000))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock) * seconds_each)
    with Steps() as steps:
        for done in range(1, total + 1):
            steps.update("bench", done, total, "block")
    written = capsys.readouterr().err.splitlines()
    assert len(written) == lines
    assert all(line.startswith("bench: ") and line.endswith("block ...") for line in written)
