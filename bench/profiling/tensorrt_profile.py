"""TensorRT's layer times: one per kernel of an engine and call, for TensorRT and TensorRT-RTX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.profiling.breakdown import ProfiledCall, Work
from bench.profiling.places import main_name, operator_from_name, place_from_name
from bench.profiling.request import ProfileRequest
from exporter.engine.load import LayerTime, TensorRtEngine, load_engine
from pruning.batching import Batch


def profile_engine(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch; the engine is opened for it and thrown away, as its profiler slows it down.

    Raises:
        InputError: as `exporter.engine.load.load_engine`.
        EngineError: if TensorRT refuses to run, or does not describe its layers.
    """
    return calls_from_engine(load_engine(request.path, device=request.options.gpu), request.batches)


def calls_from_engine(engine: TensorRtEngine, batches: Sequence[Batch]) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch."""
    nodes = {layer.name: tuple(sorted(layer.onnx_nodes)) for layer in engine.layers()}
    return tuple(call_from_layers(engine.layer_times(engine.bind(batch)), nodes) for batch in batches)


def call_from_layers(times: Sequence[LayerTime], nodes: Mapping[str, Sequence[str]]) -> ProfiledCall:
    """One call from the times of its layers; TensorRT tells nothing of the gaps between them, so they sum to the call.

    Args:
        times: of the layers.
        nodes: the ONNX nodes that each layer computes.
    """
    work_ms: dict[Work, float] = {}
    for name, milliseconds in times:
        work = _work_from_layer(name, nodes.get(name, ()))
        work_ms[work] = work_ms.get(work, 0.0) + milliseconds
    return ProfiledCall(math.fsum(work_ms.values()), work_ms)


def _work_from_layer(name: str, nodes: Sequence[str]) -> Work:
    """A layer is called after the node that says most about it; one without nodes, after itself."""
    main = main_name((*nodes, name)) or name
    return Work(name, operator_from_name(main), place_from_name(main))
