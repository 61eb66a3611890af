"""What an exported file says about itself: who wrote it, the architecture and the head.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from pruning.arch import ArchSpec

PRODUCER = "slimbert"
ARCH_KEY, HEAD_KEY = "slimbert.arch", "slimbert.head"


@dataclass(frozen=True)
class GraphMetadata:
    """Architecture and head, as stored in the metadata properties of an ONNX model."""

    arch: ArchSpec
    head: str

    def to_props(self) -> dict[str, str]:
        """The form that ONNX stores: names to text."""
        return {ARCH_KEY: self.arch.to_json(), HEAD_KEY: self.head}


def metadata_from_props(props: Mapping[str, str]) -> GraphMetadata | None:
    """Read what `GraphMetadata.to_props` wrote; None if another program wrote the model.

    Raises:
        InputError: if the stored architecture is damaged.
    """
    if ARCH_KEY not in props or HEAD_KEY not in props:
        return None
    return GraphMetadata(ArchSpec.from_json(props[ARCH_KEY]), props[HEAD_KEY])


def producer_version() -> str:
    """Version of the installed distribution; "unknown" in a source tree that is not installed."""
    try:
        return version(PRODUCER)
    except PackageNotFoundError:
        return "unknown"
