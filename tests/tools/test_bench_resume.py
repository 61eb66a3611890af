"""Ctrl-C in ``slimbert bench`` leaves the samples so far, and ``--resume`` measures the rest."""

from __future__ import annotations

from bench.experiments.results import Experiments
from bench.samples_file import read_samples
from tools import benching

QUICK = ("--blocks", "2", "--warmup-seconds", "0.001", "--seq", "16")


def press_after(monkeypatch, writes):
    """Ctrl-C, right after the samples were written a number of times."""
    write, done = benching.write_samples, []

    def stop(path, result):
        write(path, result)
        done.append(path)
        if len(done) == writes:
            raise KeyboardInterrupt

    monkeypatch.setattr(benching, "write_samples", stop)


def test_cells_measured_before_ctrl_c_are_kept(project, slimbert, monkeypatch):
    arguments = ("bench", "my-bert", "my-bert", "--batch", "1,2", *QUICK)
    press_after(monkeypatch, writes=1)
    code, _, error = slimbert(*arguments)
    assert (code, "interrupted" in error) == (130, True)
    part = read_samples(project / "bench.json")
    assert [cell.batch for cell in part.cells] == [1]
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert slimbert(*arguments, "--resume")[0] == 0
    whole = read_samples(project / "bench.json")
    assert [cell.batch for cell in whole.cells] == [1, 2]
    assert whole.cells[:1] == part.cells


def test_steps_of_an_experiment_before_ctrl_c_are_kept(project, slimbert, monkeypatch):
    sweep = ("--experiment", "throughput", "--largest-batch", "2")
    press_after(monkeypatch, writes=1)
    assert slimbert("bench", "my-bert", "my-bert", *QUICK, *sweep)[0] == 130
    (part,) = Experiments.from_dict(read_samples(project / "bench.json").experiments).throughput
    assert [len(curve.points) for curve in part.curves] == [1, 1]
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert slimbert("bench", "my-bert", "my-bert", *QUICK, *sweep, "--resume")[0] == 0
    (whole,) = Experiments.from_dict(read_samples(project / "bench.json").experiments).throughput
    assert [len(curve.points) for curve in whole.curves] == [2, 2]
    assert [curve.points[0] for curve in whole.curves] == [curve.points[0] for curve in part.curves]
