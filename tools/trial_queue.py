"""Where the trials of a grid run: one after another in this process, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pruning.errors import InputError
from tools import console
from tools.cpu_lease import leased_cpus
from tools.trial import TrialJob, run_trial

Done = Callable[[dict[str, Any]], None]
"""Told the record of each trial that is finished."""


@dataclass(frozen=True)
class RayCluster:
    """Ray at ``address``; None starts it on this machine. Each trial is given so many CPUs and ``gpus``."""

    address: str | None
    cpus: int
    gpus: int


def run_in_turn(jobs: Sequence[TrialJob], done: Done) -> list[dict[str, Any]]:
    """Records of the trials, in their order."""
    records = []
    for job in jobs:
        records.append(run_trial(job))
        done(records[-1])
    return records


def run_on_ray(jobs: Sequence[TrialJob], cluster: RayCluster, done: Done) -> list[dict[str, Any]]:
    """Records of the trials, in their order; as many at a time as the cluster has room for.

    The output folder must be one that all nodes of the cluster share.

    Raises:
        InputError: if Ray is not installed, cannot be reached, or will never have room for a trial.
    """
    ray = import_ray()
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=cluster.address, log_to_driver=False, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"Ray at {cluster.address or 'this machine'} cannot be used: {error}") from error
    try:
        _check_room(ray.cluster_resources(), cluster)
        remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=0)(run_apart)
        here = Path.cwd()  # what the user typed is relative to it
        waiting = {remote.remote(job, here): index for index, job in enumerate(jobs)}
        records: dict[int, dict[str, Any]] = {}
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            index = waiting.pop(ready)
            records[index] = ray.get(ready)
            done(records[index])
        return [records[index] for index in range(len(jobs))]
    finally:
        if started:
            ray.shutdown()


def run_apart(job: TrialJob, folder: Path) -> dict[str, Any]:
    """A trial on CPUs of its own, in a process that has nobody to talk to; paths are relative to ``folder``.

    Raises:
        InputError: if this machine does not have the folder.
    """
    if not folder.is_dir():
        raise InputError(f"a node of the Ray cluster has no {folder}. Work in a folder that all nodes share.")
    console.mode.quiet = True
    with chdir(folder), leased_cpus(job.threads):
        return run_trial(job)


def import_ray() -> Any:
    """Ray.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise InputError(
            "--ray needs Ray. Install it with: pip install 'slimbert[sweep]', or leave --ray out."
        ) from error


def _check_room(resources: dict[str, float], cluster: RayCluster) -> None:
    for name, needed in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
        if resources.get(name, 0) < needed:
            raise InputError(
                f"Ray has {resources.get(name, 0):g} {name}s, and each trial needs {needed}. Ask for fewer --threads, "
                "or pass the --address of a larger cluster."
            )
