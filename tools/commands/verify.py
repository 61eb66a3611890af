"""``slimbert verify``: is a run folder still what it was?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument

from tools import options
from tools.console import print_json, say


def verify(
    folder: Annotated[Path, Argument(metavar="DIR", help="Folder that slimbert run wrote.")],
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Check every file's checksum, and that every artifact answers like the checkpoint. Exit 1 if not."""
    from tools import verification

    facts = verification.verify(folder)
    for name, problem in facts["files"].items():
        say(f"{name}: {problem}")
    for row in facts["parity"]:
        verdict = "same answers" if row["passed"] else "DIFFERENT ANSWERS"
        gap = f"difference {row['max_abs_diff']:.1e}, allowed {row['tolerance']:.1e}"
        decides = "" if row["agreement"] is None else f", {row['agreement']:.1%} of the decisions on real text agree"
        say(f"{row['artifact']}: {verdict}, {gap}{decides}")
    for name, reason in facts["not_run"].items():
        say(f"{name}: not run: {reason}")
    say("verified" if facts["passed"] else "NOT verified")
    print_json(facts)
    if not facts["passed"]:
        raise typer.Exit(1)
