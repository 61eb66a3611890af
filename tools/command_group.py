"""A command that does its main work without naming it, and has side commands by name."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

MAIN = "measure"


class MainCommandGroup(TyperGroup):
    """``slimbert bench A B`` means ``slimbert bench measure A B``; a path named like a side command needs ``./``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the main command's name where none is given."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [MAIN, *args])
