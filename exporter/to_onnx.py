"""A BERT to an ONNX file that has been checked against it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import onnx
import onnx_ir as ir
import torch
from transformers import PreTrainedModel

from exporter.graph import DEFAULT_OPSET, graph_from_model
from exporter.metadata import metadata_from_props
from exporter.ort_session import predict_from_session, session_from_onnx
from exporter.parity import FP32_TOLERANCE, Parity, check_parity, parity_batches, require_parity
from pruning.arch import ArchSpec
from pruning.atomic import atomic_file
from pruning.batching import predict_from_model
from pruning.errors import InputError
from pruning.introspect import is_compact

MAX_FILE_BYTES = 2**31 - 2**20
"""What protobuf can hold, less room for the nodes."""
PARITY_SEED = 0


@dataclass(frozen=True)
class OnnxExport:
    """An ONNX file that is in place: what it holds, its size, how long it took, and the proof that it is right."""

    path: Path
    head: str
    arch: ArchSpec
    opset: int
    nodes: int
    bytes: int
    seconds: float
    parity: tuple[Parity, ...]


def onnx_from_model(model: PreTrainedModel, path: str | Path, *, opset: int = DEFAULT_OPSET) -> OnnxExport:
    """Write a dense or compact BERT as ONNX; the file appears only once it answers like the model.

    The same model always gives the same bytes. The model is not modified.

    Args:
        model: fp32, with one of the supported heads.
        path: the file to write; an older one is replaced only by one that passed.
        opset: version of the standard operators.

    Raises:
        InputError: if the model, the opset or the path cannot be used.
        ParityError: if the written graph answers differently; nothing is left behind.
    """
    start, path = perf_counter(), Path(path)
    _check_exportable(model, path)
    graph = graph_from_model(model, opset=opset)
    metadata = metadata_from_props(graph.metadata_props)
    assert metadata is not None
    with atomic_file(path) as partial:
        ir.save(graph, partial, format="protobuf")
        onnx.checker.check_model(str(partial), full_check=True)
        parity = parity_with_onnx(model, partial)
        require_parity(parity)
        size = partial.stat().st_size
    seconds = perf_counter() - start
    return OnnxExport(path, metadata.head, metadata.arch, opset, len(graph.graph), size, seconds, parity)


def parity_with_onnx(model: PreTrainedModel, path: Path, *, artifact: str = "onnx fp32") -> tuple[Parity, ...]:
    """Compare a model with an ONNX file of it on the inputs of `parity_batches`.

    Raises:
        InputError: if the file cannot be run, or has other outputs.
    """
    config = model.config
    batches = parity_batches(
        config.vocab_size, config.max_position_embeddings, PARITY_SEED, token_types=config.type_vocab_size
    )
    candidate = predict_from_session(session_from_onnx(path))
    with finite_masking(model):
        reference = predict_from_model(model)
        return check_parity(reference, candidate, batches, artifact=artifact, tolerance=FP32_TOLERANCE)


@contextmanager
def finite_masking(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a dense BERT gives a row without any token uniform attention, as our graphs and compact models do.

    Transformers 5 hands scaled dot-product attention a boolean mask, which turns such a row into zeros instead;
    its eager attention adds the lowest finite number. All other rows are the same either way.
    """
    before = model.config._attn_implementation
    if is_compact(model):
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _check_exportable(model: PreTrainedModel, path: Path) -> None:
    if model.dtype != torch.float32:
        raise InputError(f"the model must be float32 to be exported; got {model.dtype}. Call model.float() first.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; pass the file to write, such as {path / 'model.onnx'}.")
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if size > MAX_FILE_BYTES:
        raise InputError(
            f"the model has {size / 2**30:.1f} GiB of weights; an ONNX file holds 2 GiB. Prune it further first."
        )
