"""ONNX Runtime's own profile: one JSON file per session, one event per node and call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from bench.profiling.breakdown import ProfiledCall, Work
from bench.profiling.places import NOWHERE, place_from_name, place_from_names
from bench.profiling.request import ProfileRequest
from exporter.ort_session import OPTIMISED_NAME, PROFILE_PREFIX, predict_from_session, session_from_onnx

RUN_EVENT = "model_run"
KERNEL_SUFFIX = "_kernel_time"
US_PER_MS = 1_000.0


def profile_onnx(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch.

    Raises:
        InputError: as `exporter.ort_session.session_from_onnx`.
    """
    session = session_from_onnx(request.path, threads=request.threads, profile_folder=request.scratch)
    predict = predict_from_session(session)
    for batch in request.batches:
        predict(batch)
    session.end_profiling()
    return calls_from_folder(request.scratch)


def calls_from_folder(folder: Path) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` for each run of the session that was profiled into a folder."""
    (profile,) = folder.glob(f"{PROFILE_PREFIX}*.json")
    events = json.loads(profile.read_text(encoding="utf-8"))
    graph = onnx.load(folder / OPTIMISED_NAME, load_external_data=False).graph
    return calls_from_events(events, nodes_by_name(graph))


def nodes_by_name(graph: onnx.GraphProto) -> dict[str, tuple[str, ...]]:
    """Names that say where each node of an optimised graph belongs: its own, then its outputs, then its inputs.

    A fused node has a name of the optimiser's making, but keeps its output's name and reads weights by theirs.
    """
    return {node.name: (node.name, *node.output, *node.input) for node in graph.node}


def calls_from_events(
    events: Sequence[Mapping[str, Any]], nodes: Mapping[str, Sequence[str]]
) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` for each run of the session.

    Args:
        events: of the profile, times in microseconds.
        nodes: from `nodes_by_name`.
    """
    runs = sorted((event for event in events if event["name"] == RUN_EVENT), key=lambda event: event["ts"])
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL_SUFFIX)]
    return tuple(_call_from_run(run, kernels, nodes) for run in runs)


def _call_from_run(
    run: Mapping[str, Any], kernels: Sequence[Mapping[str, Any]], nodes: Mapping[str, Sequence[str]]
) -> ProfiledCall:
    work_ms: dict[Work, float] = {}
    for event in kernels:
        if run["ts"] <= event["ts"] <= run["ts"] + run["dur"]:
            work = _work_from_event(event, nodes)
            work_ms[work] = work_ms.get(work, 0.0) + event["dur"] / US_PER_MS
    return ProfiledCall(run["dur"] / US_PER_MS, work_ms)


def _work_from_event(event: Mapping[str, Any], nodes: Mapping[str, Sequence[str]]) -> Work:
    name = event["name"].removesuffix(KERNEL_SUFFIX)
    own, *others = nodes.get(name, (name,))
    place = place_from_name(own)
    return Work(name, event["args"]["op_name"], place if place != NOWHERE else place_from_names(others))
