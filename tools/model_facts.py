"""Size and shape of a model, as the report and ``slimbert inspect`` state them."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from pruning.introspect import arch_from_model

PRUNE_FACTS = "prune.json"
"""What ``slimbert prune`` says of its models, beside the weights."""
BYTES_PER_WEIGHT = 4
"""Models are compared as fp32, whatever precision their files have."""


def facts_from_model(model: PreTrainedModel) -> dict[str, Any]:
    """``params``, ``encoder_linear_params``, ``bytes`` (of the weights in fp32) and ``arch``, as plain data."""
    arch = arch_from_model(model)
    params = sum(parameter.numel() for parameter in model.parameters())
    return {
        "params": params,
        "encoder_linear_params": arch.encoder_linear_params,
        "bytes": params * BYTES_PER_WEIGHT,
        "arch": arch.to_dict(),
    }
