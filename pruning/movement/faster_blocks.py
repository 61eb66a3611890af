"""Trade a BERT's building blocks for simpler ones while it trains: LayerNorm for NoNorm, GELU for ReLU.

faster = replace_blocks(model, FasterBlocks(no_norm=True, relu=True), schedule)   # before the optimiser is built
faster.step(step)                                                                 # before every optimiser step
faster.finish()                                                                   # after the last one

A block in between is a mixture of the old and the new one, old alone up to the end of the first hold and new alone
from the end of the ramp on; both ends are exact. Letters: E hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pruning.config import NO_NORM
from pruning.errors import InputError
from pruning.introspect import head_from_model, layers_from_model
from pruning.model import NoNorm
from pruning.movement.schedule import Schedule

SLOWEST_MOMENTUM = 0.01
"""Weight of a batch in the running statistics, once a hundred have been seen; before, all count alike."""
RELU = "relu"


@dataclass(frozen=True)
class FasterBlocks:
    """Which blocks to trade: LayerNorm for its scale and shift alone, the activation of the FFN for ReLU."""

    no_norm: bool = False
    relu: bool = False

    def __bool__(self) -> bool:
        return self.no_norm or self.relu


@final
class MixedNorm(nn.Module):
    """``(1 - mix) LayerNorm(x) + mix (w (x - mean) / deviation + b)`` with running ``mean`` and ``deviation``.

    Both are numbers: averages over tokens of what LayerNorm computes for each. They follow the training batches while
    the mixture has a part of LayerNorm and stand still afterwards. Weight and bias are those of the LayerNorm.
    """

    mean: Tensor
    deviation: Tensor
    batches: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.mix = norm.weight, norm.bias, norm.eps, 0.0
        self.train(norm.training)
        for name, value in (("mean", 0.0), ("deviation", 1.0), ("batches", 0.0)):
            self.register_buffer(name, torch.tensor(value, device=norm.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) to (..., E)."""
        if self.training and self.mix < 1:
            self._observe(x.detach().float())
        if self.mix >= 1:
            return self._scaled(x)
        normed = F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        return normed if self.mix <= 0 else torch.lerp(normed, self._scaled(x).to(normed.dtype), self.mix)

    @torch.no_grad()
    def folded(self) -> NoNorm:
        """The same function as at ``mix`` = 1: the statistics move into weight and bias."""
        plain = NoNorm(len(self.weight)).to(self.weight)
        plain.weight.copy_(self.weight / self.deviation)
        plain.bias.copy_(self.bias - self.weight * (self.mean / self.deviation))
        return plain.train(self.training)

    def _scaled(self, x: Tensor) -> Tensor:
        return self.weight * ((x - self.mean) / self.deviation) + self.bias

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        variance, mean = torch.var_mean(x, dim=-1, correction=0)  # per token
        self.batches += 1
        momentum = (1 / self.batches).clamp(min=SLOWEST_MOMENTUM)
        self.mean.lerp_(mean.mean(), momentum)
        self.deviation.lerp_((variance + self.eps).sqrt().mean(), momentum)


@final
class MixedActivation(nn.Module):
    """``(1 - mix) act(x) + mix relu(x)``."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation, self.mix = activation, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        if self.mix >= 1:
            return F.relu(x)
        return self.activation(x) if self.mix <= 0 else torch.lerp(self.activation(x), F.relu(x), self.mix)


class BlockReplacement:
    """The mixed blocks of one model, moved along a schedule. Made by `replace_blocks`.

    ``mix`` is the share of the new blocks, in [0, 1].
    """

    def __init__(self, model: PreTrainedModel, blocks: FasterBlocks, schedule: Schedule) -> None:
        self._model, self._blocks, self._schedule = model, blocks, schedule
        self._norms = _mix_norms(model) if blocks.no_norm else []
        self._activations = _mix_activations(model) if blocks.relu else []
        self.mix = 0.0

    def step(self, step: int) -> None:
        """Set the mixture for optimiser step ``step`` (0 is the first)."""
        self.mix = self._schedule.ramp_fraction(step)
        for _, _, norm in self._norms:
            norm.mix = self.mix
        for _, activation in self._activations:
            activation.mix = self.mix

    def finish(self) -> None:
        """Leave the new blocks alone in the model, in place, and name them in its configuration."""
        for parent, name, norm in self._norms:
            parent.__setattr__(name, norm.folded())
        for parent, _ in self._activations:
            parent.intermediate_act_fn = nn.ReLU()
        if self._norms:
            self._model.config.norm_type = NO_NORM
        if self._activations:
            self._model.config.hidden_act = RELU


def replace_blocks(model: PreTrainedModel, blocks: FasterBlocks, schedule: Schedule) -> BlockReplacement:
    """Mix faster blocks into ``model``, in place; nothing changes until the schedule's ramp begins.

    Args:
        model: dense or compact BERT. Its parameters stay the same objects under the same names.
        blocks: which ones, at least one.
        schedule: the mixture follows its ramp, linearly.

    Raises:
        InputError: if the model is not supported, or has such blocks no longer.
    """
    if head_from_model(model) == "masked-lm":
        raise InputError("a masked LM shares its activation and norm with its head. Replace blocks under a task head.")
    if blocks.relu and model.config.hidden_act == RELU:
        raise InputError("the model's activation is ReLU already. Leave --relu out.")
    if blocks.no_norm and not any(isinstance(module, nn.LayerNorm) for module in model.modules()):
        raise InputError("the model has no LayerNorm left. Leave --no-norm out.")
    return BlockReplacement(model, blocks, schedule)


class BlockCallback(TrainerCallback):
    """Moves the mixture along in any `transformers.Trainer`; it follows from the step, and is not stored."""

    def __init__(self, replacement: BlockReplacement) -> None:
        self._replacement = replacement

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Set the mixture of this step."""
        self._replacement.step(state.global_step)


def _mix_norms(model: nn.Module) -> list[tuple[nn.Module, str, MixedNorm]]:
    """Replace every LayerNorm; returns where each one is."""
    places = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    mixed = []
    for place in places:
        path, _, name = place.rpartition(".")
        parent = model.get_submodule(path)
        norm = MixedNorm(parent.get_submodule(name))  # type: ignore[arg-type]  # filtered above
        parent.__setattr__(name, norm)
        mixed.append((parent, name, norm))
    return mixed


def _mix_activations(model: PreTrainedModel) -> list[tuple[Any, MixedActivation]]:
    """Replace the activation of every layer with neurons; returns where each one is."""
    parents = [layer.intermediate for layer in layers_from_model(model) if isinstance(layer.output.dense, nn.Linear)]
    for parent in parents:
        parent.intermediate_act_fn = MixedActivation(parent.intermediate_act_fn)
    return [(parent, parent.intermediate_act_fn) for parent in parents]
