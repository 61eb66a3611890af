"""What to ask of TensorRT: the library, the precision, the GPUs, the shapes. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from exporter.choices import choice_from_text
from exporter.engine.profile_shapes import ProfileShapes
from pruning.errors import InputError

OPTIMIZATION_LEVELS = range(6)
DEFAULT_TARGETS = ("SM80", "SM86", "SM89", "SM120")


class EngineError(RuntimeError):
    """TensorRT could not build the engine, or built another one than was asked for."""


class Library(StrEnum):
    """NVIDIA's two builders: one for the GPU at hand, one for any of several GPUs."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"

    @property
    def module(self) -> str:
        """What to import."""
        return self.value.replace("-", "_")


class EnginePrecision(StrEnum):
    """Type of the matrix products; int8 stands for quantised products over an fp16 base."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


class HardwareCompatibility(StrEnum):
    """Which GPUs beside the building one may run a `tensorrt` engine; wider is slower."""

    NONE = "none"
    SAME_COMPUTE_CAPABILITY = "same_compute_capability"
    AMPERE_PLUS = "ampere_plus"


@dataclass(frozen=True)
class EngineOptions:
    """How to build an engine. Plain text is accepted for the enums.

    Attributes:
        library: `tensorrt` builds for the GPU of this machine; `tensorrt-rtx` for ``targets``, on any machine.
        precision: what the engine must prove to have; it lives in the ONNX graph, building cannot change it.
        profiles: shapes to build for; empty takes `default_profiles`.
        targets: GPUs as SM80, SM86, ...: tensorrt-rtx only; empty takes `DEFAULT_TARGETS`.
        optimization_level: 0 (fast build) to 5 (fast engine); None is the library's default.
        timing_cache: file that keeps measured kernels between builds: tensorrt only; created or updated.
        version_compatible: the engine also runs with newer versions of the same major: tensorrt only.
        hardware_compatibility: tensorrt only.
        tf32: let fp32 products run at TF32's 10 bits of mantissa, which is fast and not fp32.
        allow_unfused: accept half-precision attention that is not one fused kernel in every layer with heads.

    Raises:
        InputError: if a value is unknown, or the library does not know an option.
    """

    library: Library
    precision: EnginePrecision
    profiles: tuple[ProfileShapes, ...] = ()
    targets: tuple[str, ...] = ()
    optimization_level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    tf32: bool = False
    allow_unfused: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "library", choice_from_text("library", Library, self.library))
        object.__setattr__(self, "precision", choice_from_text("precision", EnginePrecision, self.precision))
        compatibility = choice_from_text("hardware_compatibility", HardwareCompatibility, self.hardware_compatibility)
        object.__setattr__(self, "hardware_compatibility", compatibility)
        self._check_level()
        self._check_library_knows()

    def _check_level(self) -> None:
        if self.optimization_level is not None and self.optimization_level not in OPTIMIZATION_LEVELS:
            raise InputError(f"optimization_level must be 0 to 5; got {self.optimization_level}.")

    def _check_library_knows(self) -> None:
        tensorrt_only = {
            "timing_cache": self.timing_cache is not None,
            "version_compatible": self.version_compatible,
            "hardware_compatibility": self.hardware_compatibility != HardwareCompatibility.NONE,
        }
        asked = [name for name, given in tensorrt_only.items() if given]
        if self.library == Library.TENSORRT_RTX and asked:
            raise InputError(f"{', '.join(asked)}: only the library tensorrt has it; leave it out for tensorrt-rtx.")
        if self.library == Library.TENSORRT and self.targets:
            raise InputError(
                f"targets {', '.join(self.targets)}: tensorrt builds for the GPU of this machine only; leave them out, "
                "or use tensorrt-rtx."
            )
