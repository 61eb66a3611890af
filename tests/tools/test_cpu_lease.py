"""CPUs of one's own, by lock files."""

import os
import sys

import pytest

from tools import cpu_lease
from tools.cpu_lease import leased_cpus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are bound to CPUs on Linux only")


@pytest.fixture
def four(monkeypatch):
    """A machine of four CPUs; the list is what the process is bound to in turn."""
    bound = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cpus: bound.append(set(cpus)))
    return bound


def test_leases_do_not_overlap_and_end(four, tmp_path):
    with leased_cpus(2, tmp_path) as first, leased_cpus(1, tmp_path) as second:
        assert (first, second) == ((0, 1), (2,))
    assert four == [{0, 1}, {2}, {0, 1, 2, 3}, {0, 1, 2, 3}]
    with leased_cpus(9, tmp_path) as every:
        assert every == (0, 1, 2, 3)


def test_a_lease_waits_until_there_is_room(four, tmp_path, monkeypatch):
    first = leased_cpus(3, tmp_path)
    first.__enter__()
    waited = []

    def leave(seconds):
        waited.append(seconds)
        first.__exit__(None, None, None)

    monkeypatch.setattr(cpu_lease.time, "sleep", leave)
    with leased_cpus(2, tmp_path) as second:
        assert (second, waited) == ((0, 1), [cpu_lease.POLL_SECONDS])


def test_where_processes_cannot_be_bound_nothing_is_leased(four, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_lease.sys, "platform", "darwin")
    with leased_cpus(2, tmp_path) as none:
        assert none == ()
    assert four == []
