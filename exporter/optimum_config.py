"""Optimum's own exporter for compact checkpoints: an ONNX configuration registered with its ``TasksManager``.

Optimum is optional and pins an older transformers, so nothing is registered by an import: call
`register_optimum_config` once. Then ``optimum.exporters.onnx.export`` takes a compact model as any BERT, and
``main_export`` a compact checkpoint that carries its code (``trust_remote_code=True``): it accepts no other class but
those in a module of transformers.
"""

from __future__ import annotations

import pruning.auto  # noqa: F401  # teaches transformers the model type that is registered here
from pruning.config import CompactBertConfig
from pruning.errors import InputError

OPTIMUM_TASKS = (
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "text-classification",
    "token-classification",
)


def register_optimum_config() -> None:
    """Let optimum's exporter take compact checkpoints; calling it again changes nothing.

    A compact BERT has the inputs and outputs of a BERT, so its configuration is optimum's own for BERT.

    Raises:
        InputError: if optimum and its ONNX half are not installed, or do not work with the transformers that is.
    """
    try:
        from optimum.exporters.onnx.model_configs import BertOnnxConfig  # noqa: PLC0415  # optional
        from optimum.exporters.tasks import TasksManager  # noqa: PLC0415
    except ImportError as error:
        raise InputError(
            f"optimum's ONNX exporter cannot be imported ({error}); in an environment of its own: "
            'pip install "slimbert[interop]"'
        ) from error
    register = TasksManager.create_register("onnx", overwrite_existing=True)
    register(CompactBertConfig.model_type, *OPTIMUM_TASKS)(BertOnnxConfig)
