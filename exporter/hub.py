"""A finished folder on a Hugging Face hub. The token comes from the environment or the user's own login."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]  # httpx's or requests'
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from pruning.errors import InputError


class Hub(Protocol):
    """The two calls of ``huggingface_hub.HfApi`` that a push needs."""

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> object:
        """Create the repository if it is not there."""

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> object:
        """Commit every file of a folder."""


def check_push(repo: str) -> None:
    """Find out before hours of work that a push cannot succeed. Nothing is sent.

    Raises:
        InputError: if ``repo`` is not the name of a repository, or there is no token.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--push {repo!r} is not the name of a repository ({error}); pass OWNER/NAME.") from error
    if get_token() is None:
        raise InputError("--push needs a token with write access: set HF_TOKEN, or run `hf auth login`.")


def push_folder(folder: Path, repo: str, *, private: bool | None = None, hub: Hub | None = None) -> str:
    """Upload a folder, which must be complete, to a model repository; it is created if it does not exist.

    Args:
        folder: all its files are uploaded.
        repo: ``OWNER/NAME``.
        private: visibility of a repository that is created; None leaves it to the hub.
        hub: default: the hub that ``huggingface_hub`` is set up for.

    Returns:
        What the hub calls the repository, its address as a rule.

    Raises:
        InputError: if there is no network, or the hub refuses; the folder stays as it is.
    """
    api: Hub = HfApi() if hub is None else hub
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload with slimbert")
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder} is complete but was not pushed to {repo} ({reason}). Check token, name and network, then: "
            f"hf upload {repo} {folder}"
        ) from error
    return str(address)
