"""OpenVINO's own counters: one mean time per operator of the compiled model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.profiling.breakdown import ProfiledCall, Work
from bench.profiling.places import NOWHERE, Place, place_from_names
from bench.profiling.request import ProfileRequest
from bench.runners.base import Precision
from exporter.onnx_file import read_onnx
from exporter.openvino_session import compiled_from_onnx, input_names

if TYPE_CHECKING:
    from openvino import CompiledModel

MS_PER_S = 1_000.0


def profile_openvino(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch; all but the first are the mean of all but the first.

    OpenVINO's counters are means since the model was compiled, so single calls cannot be told apart; the first one,
    which also prepares kernels, is taken out of the others.

    Raises:
        InputError: as `exporter.openvino_session.compiled_from_onnx`.
    """
    bf16 = request.options.dtype is Precision.BF16
    compiled = compiled_from_onnx(request.path, threads=request.threads, bf16=bf16, counters=True)
    places, names = places_by_operator(compiled), input_names(read_onnx(request.path).graph)
    inference = compiled.create_infer_request()
    means: list[ProfiledCall] = []
    totals_s: list[float] = []
    for batch in request.batches:
        inputs = {name: batch[name].numpy() for name in names}
        begun_s = time.perf_counter()
        inference.infer(inputs, share_inputs=True)
        totals_s.append(time.perf_counter() - begun_s)
        means.append(call_from_counters(inference.get_profiling_info(), places, sum(totals_s) / len(totals_s)))
    rest = len(means) - 1
    return (means[0], *([without_first(means[0], means[-1], len(means))] * rest))


def without_first(first: ProfiledCall, mean: ProfiledCall, calls: int) -> ProfiledCall:
    """The mean of a number of calls but the first, from the first and the mean of all."""

    def rest(of_all: float, of_first: float) -> float:
        return max(0.0, (calls * of_all - of_first) / (calls - 1))

    work_ms = {work: rest(of_all, first.work_ms.get(work, 0.0)) for work, of_all in mean.work_ms.items()}
    return ProfiledCall(rest(mean.total_ms, first.total_ms), work_ms)


def places_by_operator(compiled: CompiledModel) -> dict[str, Place]:
    """Where each operator of a compiled model belongs: with the ONNX nodes in it, else with what reads its output.

    OpenVINO splits a LayerNorm and casts inputs in operators that have no name from the graph.
    """
    places: dict[str, Place] = {}
    for operator in reversed(compiled.get_runtime_model().get_ordered_ops()):
        nodes = str(operator.get_rt_info()["originalLayersNames"].astype(str)).split(",")
        readers = [
            port.get_node().get_friendly_name() for out in operator.outputs() for port in out.get_target_inputs()
        ]
        own = place_from_names(nodes)
        read = [place for name in readers if (place := places.get(name, NOWHERE)) != NOWHERE]
        places[operator.get_friendly_name()] = own if own != NOWHERE or not read else read[0]
    return places


def call_from_counters(counters: Sequence[Any], places: Mapping[str, Place], total_s: float) -> ProfiledCall:
    """The mean call that the counters of a request tell of; operators fused into others have no time and are left out.

    Args:
        counters: with ``node_name``, ``node_type`` and ``real_time``.
        places: from `places_by_operator`.
        total_s: the mean of whole calls.
    """
    work_ms: dict[Work, float] = {}
    for counter in counters:
        milliseconds = counter.real_time.total_seconds() * MS_PER_S
        if milliseconds:
            work = Work(counter.node_name, counter.node_type, places.get(counter.node_name, NOWHERE))
            work_ms[work] = work_ms.get(work, 0.0) + milliseconds
    return ProfiledCall(total_s * MS_PER_S, work_ms)
