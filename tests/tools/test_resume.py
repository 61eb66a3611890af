"""A run that is killed anywhere and continued leaves the same artifacts as one that was left alone."""

from __future__ import annotations

import os
import signal
import traceback
from pathlib import Path

import pytest

from tests.tools.conftest import RUN
from tools import console
from tools.cli import exit_code_from
from tools.manifest import file_facts

ARTIFACTS = ("compact", "deploy")
MODEL_CARD = Path("deploy", "README.md")
DONE, CRASHED = 0, 3


def artifacts(out: Path) -> dict[str, str]:
    """Checksums of everything that does not hold a measured time."""
    files = [path for name in ARTIFACTS for path in sorted((out / name).rglob("*")) if path.is_file()]
    assert out / MODEL_CARD in files
    files.remove(out / MODEL_CARD)
    return {path.relative_to(out).as_posix(): file_facts(path)["sha256"] for path in files}


class Killer:
    """Sends this process SIGKILL at its ``at``-th event."""

    def __init__(self, at: int) -> None:
        self.left = at

    def event(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function):
        def wrapper(*args, **kwargs):
            self.event()
            result = function(*args, **kwargs)
            self.event()
            return result

        return wrapper


def run_in_child(arguments, killer: Killer | None) -> int:
    """Run the command line in a forked process; returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        if killer is not None:
            os.replace = killer.around(os.replace)
            os.rename = killer.around(os.rename)
            console.Steps.update = killer.around(console.Steps.update)
        os._exit(exit_code_from(list(arguments)))
    except BaseException:  # noqa: BLE001  # a forked child must never return into pytest
        traceback.print_exc()
        os._exit(CRASHED)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_artifacts(project):
    arguments = (*RUN, "--quiet", "--out")
    assert run_in_child((*arguments, "undisturbed"), None) == DONE
    expected = artifacts(project / "undisturbed")
    killed = 0
    for at in range(1, 200, 8):
        out = f"killed-{at}"
        status = run_in_child((*arguments, out), Killer(at))
        if not os.WIFSIGNALED(status):
            assert status == DONE
            break
        killed += 1
        assert run_in_child((*arguments, out, "--resume"), None) == DONE, at
        assert artifacts(project / out) == expected, at
        leftovers = [path.name for path in (project / out).rglob(".*") if path.name != ".slimbert"]
        assert leftovers == [], at
    assert killed >= 6


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_gets_there(project):
    arguments = (*RUN, "--quiet", "--out")
    assert run_in_child((*arguments, "undisturbed"), None) == DONE
    statuses = [run_in_child((*arguments, "out", "--resume"), Killer(at=45)) for _ in range(6)]
    assert os.WIFSIGNALED(statuses[0])
    assert statuses[-1] == DONE
    assert artifacts(project / "out") == artifacts(project / "undisturbed")
