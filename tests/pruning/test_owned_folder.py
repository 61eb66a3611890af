"""An output folder is free, or this run's, or somebody else's."""

import pytest

from pruning.errors import InputError
from pruning.owned_folder import check_owner


def check(out, stored=None, request=None, resume=False):
    check_owner(out, stored, request or {"seed": 0}, kind="test run", resume=resume, remains={".state"})


def test_a_free_folder_is_taken(tmp_path):
    check(tmp_path / "new")
    check(tmp_path)
    (tmp_path / ".state").mkdir()
    check(tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / ".state").mkdir()
    (tmp_path / "thesis.txt").touch()
    for resume in (False, True):
        with pytest.raises(InputError, match=r"exists and holds no test run\. Choose another output folder"):
            check(tmp_path, resume=resume)
    with pytest.raises(InputError, match="exists and holds no test run"):
        check(tmp_path / "thesis.txt")


def test_this_run_is_continued_only_if_asked_for(tmp_path):
    check(tmp_path, {"seed": 0}, resume=True)
    with pytest.raises(InputError, match=r"already holds this test run\. Pass --resume"):
        check(tmp_path, {"seed": 0})


def test_another_run_is_never_continued(tmp_path):
    for resume in (False, True):
        with pytest.raises(InputError, match=r"holds a test run with other settings \(method, seed\)"):
            check(tmp_path, {"seed": 0}, {"seed": 1, "method": "drop"}, resume)
