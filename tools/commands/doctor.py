"""``slimbert doctor``: what is installed, and what is wrong with it."""

from __future__ import annotations

import typer

from tools import options
from tools.console import print_json, say


def doctor(
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show versions, providers and GPUs, known-bad combinations, and what to install. Exit 1 on a bad combination."""
    from tools import doctor as checks

    facts = checks.examine()
    for name, version in facts["versions"].items():
        say(f"{name:18} {version or 'not installed'}")
    say(f"{'runtimes':18} {', '.join(facts['runtimes'])}")
    for name, missing in facts["missing_runtimes"].items():
        say(f"{'no ' + name:18} {missing}")
    say(f"{'gpu':18} {', '.join(facts['gpus']) or 'none'}")
    for line in facts["advice"]:
        say(f"to add: {line}")
    for line in facts["problems"]:
        say(f"PROBLEM: {line}")
    print_json(facts)
    if facts["problems"]:
        raise typer.Exit(1)
