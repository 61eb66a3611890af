from __future__ import annotations

import sys

import pytest

from exporter.engine.library import import_tensorrt
from exporter.engine.options import EngineOptions, EnginePrecision, Library
from pruning.errors import InputError
from tests.exporter.engine.fake_tensorrt import FakeTensorRt


def test_plain_text_becomes_enums():
    options = EngineOptions("tensorrt-rtx", "fp16")
    assert (options.library, options.precision) == (Library.TENSORRT_RTX, EnginePrecision.FP16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"library": "trt"}, "library must be one of tensorrt, tensorrt-rtx; got 'trt'"),
        ({"precision": "fp8"}, "precision must be one of fp32, fp16, bf16, int8; got 'fp8'"),
        ({"hardware_compatibility": "all"}, "hardware_compatibility must be one of none, "),
        ({"optimization_level": 6}, "optimization_level must be 0 to 5; got 6"),
        (
            {"timing_cache": "x", "version_compatible": True},
            "timing_cache, version_compatible: only the library tensor",
        ),
        ({"hardware_compatibility": "ampere_plus"}, "hardware_compatibility: only the library tensorrt has it"),
        ({"library": "tensorrt", "targets": ("SM80",)}, "targets SM80: tensorrt builds for the GPU of this machine"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        EngineOptions(**({"library": "tensorrt-rtx", "precision": "fp16"} | options))


@pytest.mark.parametrize(
    ("library", "version", "flags"),
    [("tensorrt", "10.16.1.11", 2), ("tensorrt", "11.4.0.106", 0), ("tensorrt-rtx", "1.7.1", 2)],
)
def test_networks_are_strongly_typed_in_every_version(monkeypatch, library, version, flags):
    monkeypatch.setitem(sys.modules, Library(library).module, FakeTensorRt(version))
    trt = import_tensorrt(Library(library))
    assert trt.version_text == version
    assert trt.network_flags == flags
    assert trt.logger is trt.logger


@pytest.mark.parametrize("library", list(Library))
def test_missing_library_names_the_extra(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library.module, None)
    with pytest.raises(InputError, match=rf'{library} is not installed.*pip install "slimbert\[{library}\]"'):
        import_tensorrt(library)


@pytest.mark.parametrize("version", ["10.15.0", "12.0.0", "8.6.1"])
def test_version_that_is_not_supported(monkeypatch, version):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRt(version))
    with pytest.raises(
        InputError, match=f"tensorrt {version} is not supported: it must be at least 10.16 and at most 11"
    ):
        import_tensorrt(Library.TENSORRT)
