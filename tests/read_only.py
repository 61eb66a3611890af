"""A disk that takes no files."""

from __future__ import annotations

import errno
import os


def read_only(*_args, **_kwargs):
    """In place of whatever would make a file."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
