"""Plain text to a member of an enumeration. Standard library only."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from pruning.errors import InputError

Choice = TypeVar("Choice", bound=StrEnum)


def choice_from_text(name: str, kind: type[Choice], value: str) -> Choice:
    """The member of ``kind`` with this value.

    Args:
        name: of the option, for the message.
        kind: an enumeration.
        value: plain text, or a member.

    Raises:
        InputError: if there is none; all are named.
    """
    known = {member.value: member for member in kind}
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(known)}; got {value!r}.")
    return known[value]
