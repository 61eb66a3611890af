"""The side-car of an engine: what it is, what it was made from, and where it may run.

An engine is code, valid for certain GPUs and one version of TensorRT. ``<engine>.json`` says which, and holds the
checksum that must be right before the engine is opened. Standard library only, beside what it describes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exporter.engine.options import EnginePrecision, HardwareCompatibility, Library
from exporter.engine.profile_shapes import ProfileShapes
from pruning.arch import ArchSpec
from pruning.errors import InputError

SCHEMA = 1


@dataclass(frozen=True)
class EngineRecord:
    """Everything beside the engine itself.

    Attributes:
        sha256: of the engine file.
        bytes: of the engine file.
        library: that built it.
        version: of the library.
        compute_capabilities: GPUs it was built for, as SM80.
        gpu: model it was built on, None if it was built without one.
        hardware_compatibility: which other GPUs may run it.
        version_compatible: newer versions of the same major may run it.
        profiles: in the engine's order.
        requested_precision: what was asked for.
        proven_precision: what its layers have.
        attention_layers: encoder layers with heads.
        fused_attention_layers: those of them whose attention is one kernel in every profile.
        unfused: ONNX nodes of the others.
        layers: kernels in all profiles.
        tf32: whether fp32 products may run at TF32.
        optimization_level: None is the library's default.
        build_seconds: wall time.
        onnx_sha256: of the ONNX file it was built from.
        arch: of the encoder.
        head: of the model.
    """

    sha256: str
    bytes: int
    library: Library
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    hardware_compatibility: HardwareCompatibility
    version_compatible: bool
    profiles: tuple[ProfileShapes, ...]
    requested_precision: EnginePrecision
    proven_precision: EnginePrecision
    attention_layers: int
    fused_attention_layers: int
    unfused: tuple[str, ...]
    layers: int
    tf32: bool
    optimization_level: int | None
    build_seconds: float
    onnx_sha256: str
    arch: ArchSpec
    head: str

    def to_json(self) -> str:
        """Indented JSON, one key per attribute."""
        profiles = [profile.to_dict() for profile in self.profiles]
        data = asdict(self) | {"schema": SCHEMA, "profiles": profiles, "arch": self.arch.to_dict()}
        return json.dumps(data, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineRecord:
        """Read what `to_json` wrote.

        Raises:
            InputError: if the text is not such a record.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(**_fields(data))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"not the record of an engine ({error}).") from error


def record_path(engine: Path) -> Path:
    """Where the side-car of an engine is."""
    return engine.with_name(f"{engine.name}.json")


def read_engine(path: Path) -> tuple[bytes, EngineRecord]:
    """An engine file and its side-car, checksum verified.

    Raises:
        InputError: if one of the two is missing or damaged, or they do not belong together.
    """
    side_car = record_path(path)
    for file in (path, side_car):
        if not file.is_file():
            raise InputError(f"{file} does not exist or is not a file; an engine needs its side-car {side_car.name}.")
    try:
        record = EngineRecord.from_json(side_car.read_text(encoding="utf-8"))
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{side_car} is damaged: {error} Build the engine again.") from error
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise InputError(
            f"{path} is not the engine that {side_car.name} describes (sha256 {found[:12]}, expected "
            f"{record.sha256[:12]}). An engine is code: it was not opened. Copy both files again, or build it."
        )
    return data, record


def check_version(record: EngineRecord, version: tuple[int, ...]) -> None:
    """Do nothing if the installed version of the record's library opens the engine.

    Raises:
        InputError: naming both versions.
    """
    built = tuple(map(int, record.version.split(".")))
    newer = record.version_compatible and version[0] == built[0] and version >= built
    if version != built and not newer:
        needed = f"{record.version} or a newer {built[0]}.x" if record.version_compatible else record.version
        raise InputError(
            f"the engine needs {record.library} {needed}; {'.'.join(map(str, version))} is installed. "
            "Install that version, or build the engine again."
        )


def check_gpu(record: EngineRecord, gpu: tuple[str, str] | None) -> None:
    """Do nothing if the engine runs on a GPU.

    Args:
        record: of the engine.
        gpu: model and compute capability (SM80), None if there is none.

    Raises:
        InputError: naming the GPU and what the engine needs.
    """
    needed = _needed_gpu(record)
    if gpu is None:
        raise InputError(f"the engine needs a GPU ({needed}); there is none here. Use ONNX Runtime on this machine.")
    name, capability = gpu
    if not _runs_on(record, name, capability):
        raise InputError(f"the engine needs {needed}; this is {name} ({capability}). Build one for this GPU.")


def _needed_gpu(record: EngineRecord) -> str:
    if record.hardware_compatibility == HardwareCompatibility.AMPERE_PLUS:
        return "SM80 or newer"
    capabilities = " or ".join(record.compute_capabilities)
    exact = record.gpu is not None and record.hardware_compatibility == HardwareCompatibility.NONE
    return f"{record.gpu} ({capabilities})" if exact else capabilities


def _runs_on(record: EngineRecord, name: str, capability: str) -> bool:
    if record.hardware_compatibility == HardwareCompatibility.AMPERE_PLUS:
        return int(capability.removeprefix("SM")) >= 80
    if capability not in record.compute_capabilities:
        return False
    return record.gpu in (None, name) or record.hardware_compatibility != HardwareCompatibility.NONE


def _fields(data: Mapping[str, Any]) -> dict[str, Any]:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, expected {SCHEMA}")
    plain = {name: value for name, value in data.items() if name != "schema"}
    return plain | {
        "library": Library(data["library"]),
        "compute_capabilities": tuple(data["compute_capabilities"]),
        "hardware_compatibility": HardwareCompatibility(data["hardware_compatibility"]),
        "profiles": tuple(ProfileShapes.from_dict(profile) for profile in data["profiles"]),
        "requested_precision": EnginePrecision(data["requested_precision"]),
        "proven_precision": EnginePrecision(data["proven_precision"]),
        "unfused": tuple(data["unfused"]),
        "arch": ArchSpec.from_dict(data["arch"]),
    }
