import errno
import json
import os
from pathlib import Path

import pytest

from pruning.atomic import (
    atomic_file,
    atomic_folder,
    partial_path,
    recover_folder,
    require_writable,
    write_json,
    write_text,
)
from pruning.errors import InputError
from tests.read_only import read_only


class Killed(BaseException):
    """Stands for a signal: no handler of ours may catch it."""


def write_folder(target, text="new"):
    with atomic_folder(target) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "a.txt").write_text(text)


def stop_in_file(target, error):
    with atomic_file(target) as partial:
        partial.write_text("half")
        raise error("stop")


def stop_in_folder(target, error):
    with atomic_folder(target) as partial:
        (partial / "half.txt").write_text("half")
        raise error("stop")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def no_space(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("target", ["new", "deep/er/new", "old.txt", "."])
def test_a_place_that_takes_files_is_left_as_it_was(tmp_path, target):
    (tmp_path / "old.txt").write_text("old")
    require_writable(tmp_path / target)
    assert names(tmp_path) == ["old.txt"]


def test_a_place_that_takes_no_files_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("old")
    with pytest.raises(InputError, match=r"new can not be written: .*file takes no files \(Not a directory\)"):
        require_writable(tmp_path / "file" / "new")
    monkeypatch.setattr("pruning.atomic.TemporaryFile", read_only)
    with pytest.raises(InputError, match=r"out can not be written: .* takes no files \(Read-only file system\)"):
        require_writable(tmp_path / "deep" / "out")
    assert names(tmp_path) == ["file"]


def test_a_file_appears_complete(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "é")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "é".encode()
    assert names(tmp_path / "deep") == ["a.txt"]


def test_json_is_indented_and_ends_with_a_newline(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1]})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [1]}
    assert text.startswith('{\n  "a"')
    assert text.endswith("}\n")


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, Killed])
def test_a_failed_write_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error, match="stop"):
        stop_in_file(target, error)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failed_write_leaves_no_new_file(tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        stop_in_file(tmp_path / "a.txt", RuntimeError)
    assert names(tmp_path) == []


def test_a_file_left_by_a_killed_process_is_overwritten(tmp_path):
    target = tmp_path / "a.txt"
    partial_path(target).write_text("half of something longer")
    write_text(target, "new")
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_no_space_leaves_the_old_file(tmp_path, monkeypatch, call):
    target = tmp_path / "a.txt"
    target.write_text("old")
    monkeypatch.setattr(os, call, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_no_space_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    target.write_text("old")
    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_text(target, "new")
    assert target.read_text() == "old"


def test_a_folder_appears_complete(tmp_path):
    write_folder(tmp_path / "deep" / "out")
    assert (tmp_path / "deep" / "out" / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path / "deep") == ["out"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "old.txt").write_text("old")
    write_folder(target)
    assert names(target) == ["sub"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, Killed])
def test_a_failed_folder_leaves_the_old_one(tmp_path, error):
    target = tmp_path / "out"
    write_folder(target, "old")
    with pytest.raises(error, match="stop"):
        stop_in_folder(target, error)
    assert (target / "sub" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_failed_folder_leaves_nothing_new(tmp_path):
    with pytest.raises(RuntimeError, match="stop"):
        stop_in_folder(tmp_path / "out", RuntimeError)
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    target = tmp_path / "out"
    partial_path(target).mkdir()
    (partial_path(target) / "half.txt").write_text("half")
    write_folder(target)
    assert names(target) == ["sub"]
    assert names(tmp_path) == ["out"]


def die_at_the_second_rename(target, monkeypatch, error):
    """Writes ``target``; the rename that would put the new folder in place fails."""
    rename = Path.rename

    def once(self, other):
        if self == partial_path(target):
            raise error
        return rename(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        with pytest.raises(type(error)):
            write_folder(target)


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left")])
def test_an_error_between_the_two_renames_puts_the_old_folder_back(tmp_path, monkeypatch, error):
    target = tmp_path / "out"
    write_folder(target, "old")
    die_at_the_second_rename(target, monkeypatch, error)
    assert (target / "sub" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def leave_as_killed_between_the_renames(target):
    write_folder(target, "old")
    target.rename(target.with_name(f".{target.name}.old"))
    partial_path(target).mkdir()
    (partial_path(target) / "b.txt").write_text("complete, not yet in place")


def test_recovery_after_a_kill_between_the_two_renames(tmp_path):
    target = tmp_path / "out"
    leave_as_killed_between_the_renames(target)
    recover_folder(target)
    assert (target / "sub" / "a.txt").read_text() == "old"


def test_the_next_writer_recovers_too(tmp_path):
    target = tmp_path / "out"
    leave_as_killed_between_the_renames(target)
    with pytest.raises(RuntimeError, match="stop"):
        stop_in_folder(target, RuntimeError)
    assert (target / "sub" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_recovery_after_a_kill_behind_the_second_rename_keeps_the_new_folder(tmp_path):
    target = tmp_path / "out"
    write_folder(target, "new")
    write_folder(tmp_path / ".out.old", "old")
    recover_folder(target)
    assert (target / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_recovery_of_nothing_does_nothing(tmp_path):
    recover_folder(tmp_path / "out")
    assert names(tmp_path) == []


def test_no_space_leaves_the_old_folder(tmp_path, monkeypatch):
    target = tmp_path / "out"
    write_folder(target, "old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_folder(target)
    assert (target / "sub" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_a_file_is_not_replaced_by_a_folder(tmp_path):
    target = tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(InputError, match="out is a file, and a folder is to be written there"):
        write_folder(target)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("write", [atomic_file, atomic_folder])
def test_places_that_take_no_folder_are_named(tmp_path, write):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"no folder can be made at .*Choose another place to write to"),
        write(tmp_path / "file" / "below" / "target"),
    ):
        pass
