"""A TensorRT of Python objects: what slimbert asks of the library is recorded, what it answers is chosen by a test."""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace

import torch


class FakeLogger:
    pass


class Severity(enum.Enum):
    ERROR = 1
    VERBOSE = 4


class Flags(enum.IntEnum):
    STRONGLY_TYPED = 1


class Config:
    def __init__(self):
        self.calls, self.profiles = [], []

    def set_flag(self, flag):
        self.calls.append(("set", flag))

    def clear_flag(self, flag):
        self.calls.append(("clear", flag))

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, content):
        return None if content == b"damaged" else SimpleNamespace(content=content, serialize=lambda: content + b"+")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        return cache.content != b"of another gpu"


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, best, high):
        self.shapes[name] = (low, best, high)


class FakeProfiler:
    """As trt.IProfiler: of no use unless its constructor ran."""

    def __init__(self):
        self.ready = True


class FakeTensorRt:
    """The module. ``engine`` is what deserialising gives, ``serialized`` what building gives, ``log`` what it logs."""

    ILogger, IProfiler = FakeLogger, FakeProfiler
    Severity = Severity
    NetworkDefinitionCreationFlag = Flags
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    BuilderFlag = SimpleNamespace(TF32="tf32", VERSION_COMPATIBLE="version_compatible")
    HardwareCompatibilityLevel = enum.Enum("Level", "NONE AMPERE_PLUS SAME_COMPUTE_CAPABILITY")
    LayerInformationFormat = SimpleNamespace(JSON="json")
    TensorIOMode = enum.Enum("Mode", "INPUT OUTPUT")

    def __init__(self, version="10.16.1.11", log="", inspected=(), serialized=b"engine", engine=None, parses=True):
        self.__version__ = version
        self.log, self.serialized, self.parses = log, serialized, parses
        self.inspected = json.dumps({"Layers": list(inspected)})
        self.engine = engine or self
        self.config, self.network_flags, self.runtime = Config(), None, None

    def Builder(self, logger):  # noqa: N802  # the library's name
        self.logger = logger
        return self

    def create_network(self, flags):
        self.network_flags = flags
        return SimpleNamespace(num_inputs=1, get_input=lambda index: SimpleNamespace(name="input_ids"))

    def OnnxParser(self, network, logger):  # noqa: N802  # the library's name
        error = SimpleNamespace(node_name=lambda: "node", desc=lambda: "unsupported")
        return SimpleNamespace(parse=lambda data: self.parses, num_errors=1, get_error=lambda index: error)

    def create_builder_config(self):
        return self.config

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        self.logger.log(Severity.VERBOSE, self.log)
        if self.serialized is None:
            self.logger.log(Severity.ERROR, "out of\nmemory")
        return self.serialized

    def Runtime(self, logger):  # noqa: N802  # the library's name
        self.runtime = SimpleNamespace(
            deserialize_cuda_engine=lambda data: None if self.engine == "refused" else self.engine,
            engine_host_code_allowed=False,
        )
        return self.runtime

    def create_engine_inspector(self):
        return SimpleNamespace(get_engine_information=lambda kind: self.inspected)


class FakeEngine:
    """Answers ``logits`` of shape (B, 2) filled with the sum of the token ids, on the CPU, at once."""

    num_io_tensors = 3
    names = ("input_ids", "attention_mask", "logits")

    def __init__(self, layers=()):
        self.contexts, self.layers = [], layers

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return FakeTensorRt.TensorIOMode.OUTPUT if name == "logits" else FakeTensorRt.TensorIOMode.INPUT

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="HALF" if name == "logits" else "INT64")

    def create_engine_inspector(self):
        text = json.dumps({"Layers": list(self.layers)})
        return SimpleNamespace(get_engine_information=lambda kind: text)

    def create_execution_context(self):
        self.contexts.append(FakeContext([layer["Name"] for layer in self.layers]))
        return self.contexts[-1]


class FakeContext:
    """A profiler is told that its layers take 1, 2, ... ms."""

    def __init__(self, layers=()):
        self.layers, self.profiler = layers, None
        self.shapes, self.addresses, self.streams = {}, {}, []
        self.profile, self.accepts = None, True

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        self.shapes[name] = shape
        return self.accepts

    def get_tensor_shape(self, name):
        return (self.shapes["input_ids"][0], 2)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        self.streams.append(stream)
        if self.profiler is not None and self.accepts:
            assert self.profiler.ready
            for index, name in enumerate(self.layers):
                self.profiler.report_layer_time(name, index + 1.0)
        return self.accepts


class FakeStream:
    cuda_stream = 7

    def synchronize(self):
        pass

    def wait_stream(self, other):
        pass


def layer_json(name, node, kind="Half", **more):
    """A layer in the form of the engine inspector."""
    return {
        "Name": name,
        "Inputs": [{"Name": "x", "Format/Datatype": kind}],
        "Metadata": f"[ONNX Layer: {node}]",
    } | more


CPU = torch.device("cpu")
