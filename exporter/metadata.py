"""What an exported file says about itself: who wrote it, the architecture, the head, and how it was written.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pruning.arch import ArchSpec
from pruning.errors import InputError

PRODUCER = "slimbert"
ARCH_KEY, HEAD_KEY, FORM_KEY = "slimbert.arch", "slimbert.head", "slimbert.form"
FUSION_KEY = "slimbert.fusion"
"""Only in files whose fused and unfused form were timed: what was found, in words."""


@dataclass(frozen=True)
class GraphForm:
    """How the graph was written, in plain data; the defaults are what files of older versions are.

    Attributes:
        dialect: value of `exporter.options.Dialect`.
        dtype: precision of the weights.
        right_padding: True if the graph is wrong for masks that are not padded on the right.
        first_token: True if the end of the encoder is computed for the first token alone.
        pooling: value of `exporter.options.Pooling`, or None.
        fp32_parts: what an fp16 graph keeps in fp32.
    """

    dialect: str = "standard"
    dtype: str = "fp32"
    right_padding: bool = False
    first_token: bool = False
    pooling: str | None = None
    fp32_parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphMetadata:
    """Architecture, head and form, as stored in the metadata properties of an ONNX model."""

    arch: ArchSpec
    head: str
    form: GraphForm = GraphForm()

    def to_props(self) -> dict[str, str]:
        """The form that ONNX stores: names to text."""
        return {ARCH_KEY: self.arch.to_json(), HEAD_KEY: self.head, FORM_KEY: json.dumps(asdict(self.form))}


def metadata_from_props(props: Mapping[str, str]) -> GraphMetadata | None:
    """Read what `GraphMetadata.to_props` wrote; None if another program wrote the model.

    Raises:
        InputError: if what is stored is damaged.
    """
    if ARCH_KEY not in props or HEAD_KEY not in props:
        return None
    return GraphMetadata(ArchSpec.from_json(props[ARCH_KEY]), props[HEAD_KEY], _form(props.get(FORM_KEY, "{}")))


def producer_version() -> str:
    """Version of the installed distribution; "unknown" in a source tree that is not installed."""
    try:
        return version(PRODUCER)
    except PackageNotFoundError:
        return "unknown"


def _form(text: str) -> GraphForm:
    try:
        data: dict[str, Any] = json.loads(text)
        return GraphForm(**(data | {"fp32_parts": tuple(data.get("fp32_parts", ()))}))
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise InputError(f"{FORM_KEY} in the ONNX file is damaged or newer than slimbert ({error}).") from error
