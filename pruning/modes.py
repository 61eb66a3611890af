"""Dropout must never reach a score or a statistic, nor a student that is to repeat its teacher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Within the context, the models are in evaluation mode; afterwards each is in the mode it had."""
    modes = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, modes, strict=True):
            model.train(training)


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Within the context, the model drops nothing in training mode either; afterwards it drops what it did."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    rates = [layer.p for layer in layers]
    for layer in layers:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
