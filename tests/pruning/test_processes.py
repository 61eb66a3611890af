"""Who writes: decided by what the launcher says. Two real processes: ``tests/tools/test_processes.py``."""

import pytest

from pruning import processes
from pruning.errors import InputError
from pruning.processes import is_main_process, on_main_process, process_count
from pruning.training import TrainingOptions, shared_plan, steps_of
from tests.pruning.test_training import objective


@pytest.fixture
def launched(monkeypatch):
    """Pretend to be one of several."""

    def launch(count, rank):
        monkeypatch.setenv("WORLD_SIZE", str(count))
        monkeypatch.setenv("RANK", str(rank))

    return launch


@pytest.mark.parametrize(("rank", "done"), [(0, ["work", "wait"]), (1, ["wait"])])
def test_the_main_process_works_and_all_wait_for_it(launched, monkeypatch, rank, done):
    found = []
    monkeypatch.setattr(processes, "wait_for_all", lambda *, cpu: found.append("wait"))
    launched(2, rank)
    on_main_process(lambda: found.append("work"), cpu=True)
    assert (found, is_main_process()) == (done, rank == 0)


def test_one_process_works_and_waits_for_nobody():
    found = []
    on_main_process(lambda: found.append("work"), cpu=True)
    assert (found, process_count(), is_main_process()) == (["work"], 1, True)


def test_several_processes_without_numbers_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(
        InputError, match=r"WORLD_SIZE is 2 and RANK is not set\. Start with accelerate launch or torchrun"
    ):
        process_count()


def test_processes_take_turns_and_the_first_batches_fill_the_last_turn(launched):
    launched(3, 1)
    plan = [(0, 1), (2, 3), (4, 5), (6,)]
    assert shared_plan(plan) == [*plan, (0, 1), (2, 3)]
    assert shared_plan(plan[:3]) == plan[:3]
    assert shared_plan(plan[:1]) == [(0, 1)] * 3
    assert steps_of(objective(), TrainingOptions(epochs=2, batch_size=2)) == 2
    assert steps_of(objective(), TrainingOptions(epochs=2, batch_size=2, accumulate=2)) == 1
