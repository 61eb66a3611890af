"""The folder of a run: whose it is, which stages are finished, and what they found.

A stage is finished when its facts are on disk, and they are written after everything else the stage leaves. A run that
is stopped at any moment therefore continues with the first stage without facts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.atomic import recover_folder, write_json
from pruning.errors import InputError
from pruning.owned_folder import check_owner
from tools.settings import RunSettings

STATE = ".slimbert"
FOLDERS = ("compact", "deploy", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and the facts of its finished stages."""

    path: Path

    @property
    def compact(self) -> Path:
        """The compact checkpoint."""
        return self.path / "compact"

    @property
    def deploy(self) -> Path:
        """The folder for other programs."""
        return self.path / "deploy"

    @property
    def texts(self) -> Path:
        """Token ids of the real text that parity is checked on."""
        return self.path / "parity_texts.json"

    @property
    def state(self) -> Path:
        """Settings and facts of finished stages."""
        return self.path / STATE

    def facts(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage wrote; None if it is not finished."""
        path = self.state / f"{stage}.json"
        if not path.is_file():
            return None
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is damaged ({error}). Remove it and pass --resume.") from error
        return facts

    def finish(self, stage: str, facts: dict[str, Any]) -> None:
        """Mark a stage as finished."""
        write_json(self.state / f"{stage}.json", facts)

    def check(self, settings: RunSettings, *, resume: bool) -> None:
        """Make sure that the folder is free, or holds this very run and may be continued. Writes nothing.

        Raises:
            InputError: if it holds something else.
        """
        wanted = settings.model_dump(mode="json")
        check_owner(self.path, self._stored_settings(), wanted, kind="run", resume=resume, remains={STATE})

    def claim(self, settings: RunSettings) -> None:
        """Write the settings, and undo what a killed process may have left half-renamed."""
        for name in FOLDERS:
            recover_folder(self.path / name)
        if self._stored_settings() is None:
            write_json(self.state / "settings.json", settings.model_dump(mode="json"))

    def _stored_settings(self) -> dict[str, Any] | None:
        return self.facts("settings")
