"""The calls into TensorRT that turn an ONNX file into a serialised engine and the list of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from exporter.engine.layers import EngineLayer, layers_from_inspector, layers_from_log
from exporter.engine.library import TensorRt
from exporter.engine.options import (
    DEFAULT_TARGETS,
    EngineError,
    EngineOptions,
    HardwareCompatibility,
    Library,
)
from exporter.engine.profile_shapes import ProfileShapes
from exporter.engine.source import EngineSource
from pruning.atomic import atomic_file
from pruning.errors import InputError

NOT_TARGETS = ("NONE", "CURRENT")
ERROR_SEVERITIES = ("ERROR", "INTERNAL_ERROR")


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine: the GPUs it runs on, its layers, and how long the build took.

    ``gpu`` is the model that it was built on, None if it was built without one.
    """

    data: bytes
    layers: tuple[EngineLayer, ...]
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    seconds: float


def build_engine(
    trt: TensorRt, source: EngineSource, options: EngineOptions, profiles: Sequence[ProfileShapes]
) -> BuiltEngine:
    """Parse, configure, build; nothing is written but the timing cache.

    Raises:
        InputError: if the library cannot read the graph, has not the targets, or needs a GPU and there is none.
        EngineError: if the build fails; TensorRT's own words are in the message.
    """
    targets, gpu = _targets(trt, options)
    start, logger = perf_counter(), trt.logger
    logger.messages.clear()
    builder = trt.api.Builder(logger)
    network = builder.create_network(trt.network_flags)
    parser = trt.api.OnnxParser(network, logger)  # lives as long as the network, whose weights it owns
    _parse(parser, source)
    config = _config(trt, builder, network, profiles, options)
    if trt.library == Library.TENSORRT_RTX:
        _set_targets(trt, config, targets)
    cache = _timing_cache(config, options.timing_cache)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(f"{trt.library} {trt.version_text} could not build {source.path}: {_errors(logger)}")
    if cache is not None and options.timing_cache is not None:
        with atomic_file(options.timing_cache) as partial:
            partial.write_bytes(bytes(cache.serialize()))
    data = bytes(serialized)
    seconds = perf_counter() - start
    layers = layers_from_log(text for _, text in logger.messages)
    if not layers and gpu is not None:
        layers = _inspected_layers(trt, data, options)
    return BuiltEngine(data, layers, targets, gpu, seconds)


def gpu_name_and_capability(device: int = 0) -> tuple[str, str] | None:
    """Model of a GPU and its compute capability as SM80; None where there is none."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"SM{major}{minor}"


def _targets(trt: TensorRt, options: EngineOptions) -> tuple[tuple[str, ...], str | None]:
    """Compute capabilities to build for, and the GPU at hand if it is what the engine is for."""
    if trt.library == Library.TENSORRT:
        gpu = gpu_name_and_capability()
        if gpu is None:
            raise InputError(
                "tensorrt builds on the GPU that the engine is for, and there is none here; run on that machine, "
                "or build with tensorrt-rtx, which needs no GPU."
            )
        return (gpu[1],), gpu[0]
    known = [name for name in trt.api.ComputeCapability.__members__ if name not in NOT_TARGETS]
    targets = options.targets or DEFAULT_TARGETS
    unknown = [target for target in targets if target not in known]
    if unknown:
        raise InputError(
            f"{trt.library} {trt.version_text} does not build for {', '.join(unknown)}; it builds for "
            f"{', '.join(known)}. For another GPU use the library tensorrt on it."
        )
    return tuple(dict.fromkeys(targets)), None


def _parse(parser: Any, source: EngineSource) -> None:
    if parser.parse(source.path.read_bytes()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    reasons = "; ".join(f"{error.node_name()}: {error.desc()}" for error in errors)[:400]
    raise InputError(f"TensorRT cannot read {source.path} ({reasons}). Export it in the standard dialect.")


def _config(
    trt: TensorRt, builder: Any, network: Any, profiles: Sequence[ProfileShapes], options: EngineOptions
) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.api.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if not options.tf32:
        config.clear_flag(trt.api.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.api.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatibility != HardwareCompatibility.NONE:
        levels = trt.api.HardwareCompatibilityLevel
        config.hardware_compatibility_level = levels.__members__[options.hardware_compatibility.name]
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for index in range(network.num_inputs):
            profile.set_shape(network.get_input(index).name, *shapes.corners)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{trt.library} does not take profile {shapes}: {_errors(trt.logger)}")
    return config


def _set_targets(trt: TensorRt, config: Any, targets: Sequence[str]) -> None:
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(trt.api.ComputeCapability.__members__[target], index)


def _timing_cache(config: Any, path: Path | None) -> Any:
    """The timing cache in a file, or a new one; None if none was asked for."""
    if path is None:
        return None
    content = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, False):
        raise InputError(
            f"the timing cache {path} is damaged or of another GPU or TensorRT version; delete it or name another file."
        )
    return cache


def _inspected_layers(trt: TensorRt, data: bytes, options: EngineOptions) -> tuple[EngineLayer, ...]:
    runtime = trt.api.Runtime(trt.logger)
    if options.version_compatible:  # such an engine brings its own runtime along; we have just built it ourselves
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        raise EngineError(f"the engine that was just built cannot be opened: {_errors(trt.logger)}")
    inspector = engine.create_engine_inspector()
    return layers_from_inspector(inspector.get_engine_information(trt.api.LayerInformationFormat.JSON))


def _errors(logger: Any) -> str:
    """The last errors that TensorRT logged, on one line."""
    errors = [text for severity, text in logger.messages if severity in ERROR_SEVERITIES]
    return " ".join("; ".join(errors[-3:]).split())[:600] or "no error was logged"
