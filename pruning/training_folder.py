"""The output folder of a training run: free, or holding this very run to be continued. Standard library only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.atomic import recover_folder
from pruning.owned_folder import check_owner

STATES, REQUEST = ".training", "request.json"


@dataclass(frozen=True)
class TrainingFolder:
    """While the run lasts there is only ``.training`` with its request; at the end ``record`` names it.

    ``kind`` says in words what kind of run it is.
    """

    out: Path
    record: str
    kind: str

    @property
    def states(self) -> Path:
        """Where a stopped run continues from."""
        return self.out / STATES

    def open(self, request: Mapping[str, Any], *, resume: bool) -> None:
        """Put right what a kill in the last moment left, and `check`.

        Raises:
            InputError: as `check`.
        """
        recover_folder(self.out)
        self.check(request, resume=resume)

    def check(self, request: Mapping[str, Any], *, resume: bool) -> None:
        """Make sure that the folder is free, or holds the run of ``request`` and may be resumed.

        Raises:
            InputError: if it does not.
        """
        check_owner(self.out, self._stored_request(), request, kind=f"{self.kind} run", resume=resume)

    def _stored_request(self) -> dict[str, Any] | None:
        try:
            if (self.out / self.record).is_file():
                return dict(json.loads((self.out / self.record).read_text(encoding="utf-8"))["request"])
            return dict(json.loads((self.states / REQUEST).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def sha256_of(data: object) -> str:
    """Checksum of plain data."""
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()
