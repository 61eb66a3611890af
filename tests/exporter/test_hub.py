from __future__ import annotations

import pytest

from exporter import hub
from exporter.hub import check_push, push_folder
from pruning.errors import InputError


class FakeHub:
    """Remembers what it was asked; refuses with ``error`` if it has one."""

    def __init__(self, error=None):
        self.calls, self.error = [], error

    def create_repo(self, repo_id, *, private, exist_ok):
        if self.error:
            raise self.error
        self.calls.append(("create", repo_id, private, exist_ok))
        return f"https://hub.example/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir()), commit_message))


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "README.md"):
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize("private", [None, True])
def test_push_creates_the_repository_and_uploads_every_file(folder, private):
    fake = FakeHub()
    assert push_folder(folder, "owner/guard", private=private, hub=fake) == "https://hub.example/owner/guard"
    assert fake.calls == [
        ("create", "owner/guard", private, True),
        ("upload", "owner/guard", ["README.md", "config.json"], "Upload with slimbert"),
    ]


@pytest.mark.parametrize("error", [hub.HTTPError("403 Forbidden\nfor you"), ConnectionError("no route")])
def test_a_hub_that_refuses_is_one_line_that_says_what_to_do(folder, error):
    with pytest.raises(InputError, match=r"is complete but was not pushed to owner/guard .* hf upload owner/guard"):
        push_folder(folder, "owner/guard", hub=FakeHub(error))
    assert (folder / "config.json").is_file()


def test_without_a_network_the_real_client_is_one_line_too(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    with pytest.raises(InputError, match="was not pushed to owner/guard"):
        push_folder(folder, "owner/guard")


def test_what_cannot_succeed_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: "hf_none")
    check_push("owner/guard")
    with pytest.raises(InputError, match="is not the name of a repository"):
        check_push("a/b/c")
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="needs a token"):
        check_push("owner/guard")
