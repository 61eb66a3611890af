"""A checkpoint as a PyTorch model: loaded in a precision, and run on a batch. Letters: B batch, S sequence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from bench.runners.artifact import Artifact, artifact_from_path
from bench.runners.base import Limits, Outputs, Precision, Traits
from pruning.batching import OUTPUT_NAMES, Batch
from pruning.checkpoint import load_checkpoint
from pruning.errors import InputError
from pruning.introspect import head_from_model

TORCH_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}
DTYPE_NAMES = {dtype: precision.value for precision, dtype in TORCH_DTYPES.items()}
BATCH_NAMES = ("input_ids", "attention_mask", "token_type_ids")
RECOMPILATIONS = 1024
HEAD_OUTPUTS = {
    "sequence-classification": ("logits",),
    "token-classification": ("logits",),
    "masked-lm": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "encoder": ("last_hidden_state",),
}


def checkpoint_from_artifact(path: Path, runtime: str) -> Path:
    """The checkpoint folder itself.

    Raises:
        InputError: if ``path`` holds something else.
    """
    kind = artifact_from_path(path)
    if kind is not Artifact.CHECKPOINT:
        others = "tensorrt or tensorrt-rtx" if kind is Artifact.ENGINE else runtime.replace("torch", "ort")
        raise InputError(f"{runtime} runs a checkpoint folder; {path} is {kind.value}. Use {others} for it.")
    return path


def allow_recompilations() -> None:
    """Let ``torch.compile`` specialise to every shape of every model of a grid; PyTorch's own limit is 8."""
    torch._dynamo.config.recompile_limit = RECOMPILATIONS


def torch_model(checkpoint: Path, dtype: Precision | None) -> PreTrainedModel:
    """Load a checkpoint; sdpa is required, since eager attention would make the baseline look slow."""
    model = load_checkpoint(checkpoint).model.eval()
    model.set_attn_implementation("sdpa")
    return model if dtype is None else model.to(TORCH_DTYPES[dtype])


def forward(model: Callable[..., Any], batch: Batch) -> Outputs:
    """One forward pass; outputs stay where they are, in the model's precision."""
    with torch.inference_mode():
        outputs = model(**batch)
    return {name: outputs[name] for name in OUTPUT_NAMES if name in outputs}


def traits_from_model(model: PreTrainedModel) -> Traits:
    """Precision of the weights, limits as the configuration says, and what `forward` answers with."""
    return Traits(
        dtype=DTYPE_NAMES[model.dtype],
        limits=Limits(model.config.vocab_size, model.config.max_position_embeddings),
        input_names=BATCH_NAMES,
        output_names=HEAD_OUTPUTS[head_from_model(model)],
    )
