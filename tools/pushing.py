"""``--push``: a finished folder to the hub, and nothing before it is finished and checked."""

from __future__ import annotations

from pathlib import Path

from exporter.hub import check_push, push_folder
from pruning.errors import InputError
from tools.console import say
from tools.run_folder import RunFolder
from tools.verification import verify


def check(repo: str | None, *, private: bool) -> None:
    """Refuse before the work starts what would be refused after it.

    Raises:
        InputError: if ``private`` has nothing to apply to, or as `exporter.hub.check_push`.
    """
    if repo is not None:
        check_push(repo)
    elif private:
        raise InputError("--private says how --push creates the repository; pass --push OWNER/NAME too.")


def push(folder: Path, repo: str, *, private: bool) -> str:
    """Upload a folder that is complete, and say where it went.

    Raises:
        InputError: as `exporter.hub.push_folder`.
    """
    address = push_folder(folder, repo, private=private or None)
    say(f"pushed to {address}")
    return address


def push_run(out: Path, repo: str, *, private: bool) -> str:
    """Upload the ``deploy/`` of a finished run whose files and answers are verified first.

    Raises:
        InputError: if the folder is not what the run left, or as `exporter.hub.push_folder`.
    """
    found = verify(out)
    if not found["passed"]:
        problem = ", ".join(f"{name}: {reason}" for name, reason in found["files"].items()) or "other answers"
        raise InputError(f"{out} was not pushed, because it is not as the run left it ({problem}). Run again.")
    return push(RunFolder(out).deploy, repo, private=private)
