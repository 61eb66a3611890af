"""A BERT to an ONNX file that has been checked against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import onnx
import onnx_ir as ir
import torch
from torch import Tensor
from transformers import PreTrainedModel

from exporter.fused import attention_layers, fusion_summary, require_fused
from exporter.graph import graph_from_model, resolved_options
from exporter.metadata import GraphForm, metadata_from_props
from exporter.options import Dialect, Dtype, GraphOptions
from exporter.ort_session import metadata_from_session, predict_from_session, session_from_onnx
from exporter.parity import (
    FP32_TOLERANCE,
    TOLERANCES,
    Parity,
    check_parity,
    is_right_padded,
    parity_batches,
    require_parity,
    sentence_embeddings,
)
from exporter.rounding import predict_from_graph
from pruning.arch import ArchSpec
from pruning.atomic import atomic_file
from pruning.batching import Batch, Predict, predict_from_model
from pruning.errors import InputError
from pruning.introspect import is_compact

MAX_FILE_BYTES = 2**31 - 2**20
"""What protobuf can hold, less room for the nodes."""
PARITY_SEED = 0


@dataclass(frozen=True)
class OnnxExport:
    """An ONNX file that is in place: what it holds, its size, how long it took, and the proof that it is right.

    ``form`` says how it was written. ``fused_attention`` of ``attention_layers`` (the layers that have heads) are one
    operator, counted in the file: all of them in ONNX Runtime's dialects, none in the standard one.
    """

    path: Path
    head: str
    arch: ArchSpec
    opset: int
    nodes: int
    bytes: int
    seconds: float
    parity: tuple[Parity, ...]
    form: GraphForm
    fused_attention: int
    attention_layers: int

    @property
    def fusion(self) -> str:
        """For example "attention fused in 6 of 6 layers"."""
        return fusion_summary(self.fused_attention, self.attention_layers)

    @property
    def fp32_summary(self) -> str | None:
        """What an fp16 graph keeps in fp32, because its tolerance needs it; None for an fp32 graph."""
        if self.form.dtype != Dtype.FP16:
            return None
        kept = " and ".join(part.replace("_", " ") for part in self.form.fp32_parts)
        worst = max(case.max_abs_diff for case in self.parity)
        return f"{f'{kept} kept in fp32' if kept else 'all in fp16'}, largest difference {worst:.1e}"


def onnx_from_model(
    model: PreTrainedModel, path: str | Path, *, opset: int | None = None, options: GraphOptions | None = None
) -> OnnxExport:
    """Write a dense or compact BERT as ONNX; the file appears only once it answers like the model.

    The same model and options always give the same bytes. The model is not modified. An fp16 graph keeps in fp32 the
    least that its tolerance needs (`GraphOptions.fp32_parts`), measured here and stored in the file's metadata.

    Args:
        model: fp32, with one of the supported heads.
        path: the file to write; an older one is replaced only by one that passed.
        opset: in place of ``options.opset``.
        options: dialect, precision and masks; default: standard operators, fp32, right for every mask.

    Raises:
        InputError: if the model, the options or the path cannot be used.
        FusionError: if attention is not fused in every layer where the dialect promises it.
        ParityError: if the written graph answers differently; nothing is left behind.
    """
    start, path, options = perf_counter(), Path(path), resolved_options(options, opset)
    _check_exportable(model, path)
    with atomic_file(path) as partial:
        graph, parity = _write_cheapest(model, partial, options)
        metadata = metadata_from_props(graph.metadata_props)
        assert metadata is not None
        fused = require_fused(partial, metadata.arch) if options.fused else 0
        require_parity(parity)
        size = partial.stat().st_size
    return OnnxExport(
        path=path,
        head=metadata.head,
        arch=metadata.arch,
        opset=options.opset,
        nodes=len(graph.graph),
        bytes=size,
        seconds=perf_counter() - start,
        parity=parity,
        form=metadata.form,
        fused_attention=fused,
        attention_layers=attention_layers(metadata.arch),
    )


def parity_with_onnx(
    model: PreTrainedModel,
    path: Path,
    *,
    artifact: str | None = None,
    tolerance: float | None = None,
    texts: Mapping[str, Batch] | None = None,
) -> tuple[Parity, ...]:
    """Compare a model with an ONNX file of it on the inputs of `parity_batches`, and on ``texts``.

    A file of ours says what it is: its precision gives the tolerance (`TOLERANCES`), right padding leaves other masks
    out, and sentence embeddings are compared with those of the model's states.

    Args:
        model: the reference, fp32.
        path: an ONNX file of it.
        artifact: what it is called in the report; default: its precision and dialect.
        tolerance: in place of the precision's own.
        texts: more cases, by name.

    Raises:
        InputError: if the file cannot be run, or has other outputs.
    """
    session = session_from_onnx(path)
    metadata = metadata_from_session(session)
    form = metadata.form if metadata else GraphForm()
    artifact, predict = artifact or _artifact(form), predict_from_session(session)
    return parity_of_form(model, predict, form, artifact=artifact, tolerance=tolerance, texts=texts)


def parity_of_form(
    model: PreTrainedModel,
    candidate: Predict,
    form: GraphForm,
    *,
    artifact: str,
    tolerance: float | None = None,
    texts: Mapping[str, Batch] | None = None,
) -> tuple[Parity, ...]:
    """`parity_with_onnx` for a candidate in any runtime, whose form decides outputs, masks and tolerance."""
    tolerance = tolerance or TOLERANCES.get(form.dtype, FP32_TOLERANCE)
    cases = {**_batches(model), **(texts or {})}
    kept = {
        case: batch
        for case, batch in cases.items()
        if not form.right_padding or is_right_padded(batch["attention_mask"])
    }
    with finite_masking(model):
        reference = reference_of_form(model, form)
        return check_parity(reference, candidate, kept, artifact=artifact, tolerance=tolerance)


def reference_of_form(model: PreTrainedModel, form: GraphForm) -> Predict:
    """The model as a `Predict` with the outputs that a graph of this form has."""
    reference = predict_from_model(model)
    return _with_sentence_embedding(reference) if form.pooling else reference


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


def _write_cheapest(model: PreTrainedModel, path: Path, options: GraphOptions) -> tuple[ir.Model, tuple[Parity, ...]]:
    """Write the first of the precision choices that passes, or the last, and how far it is from the model.

    An fp16 graph is also run with its rounding, which ONNX Runtime on a CPU leaves out: see ``rounding.py``.
    """
    for parts in options.fp32_choices:
        graph = graph_from_model(model, options=replace(options, fp32_parts=parts))
        parity: tuple[Parity, ...] = ()
        if options.dtype == Dtype.FP16:
            parity = _parity_with_rounding(model, graph)
            if parts != options.fp32_choices[-1] and not all(result.passed for result in parity):
                continue
        ir.save(graph, path, format="protobuf")
        onnx.checker.check_model(str(path), full_check=True)
        parity += parity_with_onnx(model, path)
        if all(result.passed for result in parity):
            break
    return graph, parity


def _parity_with_rounding(model: PreTrainedModel, graph: ir.Model) -> tuple[Parity, ...]:
    metadata = metadata_from_props(graph.metadata_props)
    assert metadata is not None
    artifact = f"{_artifact(metadata.form)}, rounded as on an accelerator"
    return parity_of_form(model, predict_from_graph(graph), metadata.form, artifact=artifact)


def _batches(model: PreTrainedModel) -> dict[str, Batch]:
    config = model.config
    return parity_batches(
        config.vocab_size, config.max_position_embeddings, PARITY_SEED, token_types=config.type_vocab_size
    )


def _with_sentence_embedding(predict: Predict) -> Predict:
    def with_embedding(batch: Batch) -> dict[str, Tensor]:
        outputs = predict(batch)
        pooled = sentence_embeddings(outputs["last_hidden_state"], batch["attention_mask"])
        return outputs | {"sentence_embedding": pooled}

    return with_embedding


def _artifact(form: GraphForm) -> str:
    dialect = "" if form.dialect == Dialect.STANDARD else f" {form.dialect}"
    return f"onnx {form.dtype}{dialect}{' right-padding' if form.right_padding else ''}"


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
