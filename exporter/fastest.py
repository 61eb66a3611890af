"""Of the fused and the unfused CPU graph, the one that is not slower here: measured by the caller, not believed.

The exporter owns no clock: it hands two files of one model to a function that times them, such as one of ``bench``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from exporter.metadata import FUSION_KEY
from exporter.onnx_file import read_onnx
from exporter.options import Dialect, GraphOptions
from exporter.to_onnx import OnnxExport, onnx_from_model
from pruning.errors import InputError

FUSED_FILE, UNFUSED_FILE = "fused.onnx", "unfused.onnx"


@dataclass(frozen=True)
class Speedup:
    """Latency of the unfused graph over that of the fused one, and an interval for it: above 1, fused is faster.

    Raises:
        InputError: unless 0 < low <= value <= high.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high:
            raise InputError(
                f"a speedup must lie in its interval, above 0; got {self.value} in [{self.low}, {self.high}]."
            )


Compare = Callable[[Path, Path], Speedup]
"""Times a fused and an unfused ONNX file of one model on this machine."""


@dataclass(frozen=True)
class FasterExport:
    """The file that was kept, and why: the fused graph unless it measured slower."""

    export: OnnxExport
    speedup: Speedup

    @property
    def fused(self) -> bool:
        """Whether the fused graph was kept."""
        return self.export.form.dialect != Dialect.STANDARD

    def __str__(self) -> str:
        kept = "fused kept" if self.fused else "unfused kept, because fusion is slower here"
        x = self.speedup
        return f"fusion speedup {x.value:.3f} [{x.low:.3f}, {x.high:.3f}]: {kept}"


def faster_onnx_from_model(
    model: PreTrainedModel, path: str | Path, compare: Compare, *, options: GraphOptions | None = None
) -> FasterExport:
    """Write the model for ONNX Runtime's CPU provider: fused, unless ``compare`` finds that slower than unfused.

    Both are written in full, checked for parity, timed, and one is moved to ``path``.

    Args:
        model: fp32, with one of the supported heads.
        path: the file to write.
        compare: times the two files; `Speedup.value` of 1 or more keeps the fused one.
        options: for both graphs; the dialect is ``ort-cpu`` and, for the unfused one, ``standard``.

    Raises:
        InputError: as `onnx_from_model`, and for right padding, which only the fused graph knows.
        FusionError: as `onnx_from_model`.
        ParityError: as `onnx_from_model`; nothing is left behind.
    """
    path, options = Path(path), options or GraphOptions()
    if options.right_padding:
        raise InputError("right padding has no unfused graph to compare with; export it with onnx_from_model.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:  # one device: the move is a rename
        fused_path, unfused_path = Path(folder, FUSED_FILE), Path(folder, UNFUSED_FILE)
        fused = onnx_from_model(model, fused_path, options=replace(options, dialect=Dialect.ORT_CPU))
        unfused = onnx_from_model(model, unfused_path, options=replace(options, dialect=Dialect.STANDARD))
        speedup = compare(fused_path, unfused_path)
        found = FasterExport(fused if speedup.value >= 1.0 else unfused, speedup)
        size = _record(found)
        found.export.path.replace(path)
    return replace(found, export=replace(found.export, path=path, bytes=size))


def _record(found: FasterExport) -> int:
    """Say in the file's metadata what was measured; its new size."""
    path = found.export.path
    model = read_onnx(path)
    model.metadata_props.add(key=FUSION_KEY, value=str(found))
    return path.write_bytes(model.SerializeToString(deterministic=True))
