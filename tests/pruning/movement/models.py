"""What the tests of movement pruning share: a masked tiny BERT with spread out scores, and a little training."""

from __future__ import annotations

import torch

from pruning.movement.controller import Target
from pruning.movement.layers import masks_of
from pruning.movement.names import MaskFunction, Variant
from pruning.movement.pruner import PaperAim, attach
from pruning.movement.schedule import Schedule
from pruning.movement.spec import movement_spec
from pruning.movement.training import parameter_groups
from tests.tiny import tiny_batch, tiny_bert

SHORT = Schedule(total_steps=10, hold_steps=1, final_hold_steps=3)
BLOCK = (4, 8)


def fine_bert(head="sequence-classification"):
    """Units small enough for a target within 3 %."""
    return tiny_bert(head, hidden_size=32, intermediate_size=96, num_attention_heads=8)


def spec(variant=Variant.HYBRID, function=MaskFunction.SIGMOID_THRESHOLD, **changes):
    return movement_spec(variant, function, **({"block": BLOCK} | changes))


def pruner_of(variant=Variant.HYBRID, function=MaskFunction.SIGMOID_THRESHOLD, *, aim=None, model=None, **changes):
    model = tiny_bert() if model is None else model
    return attach(model, spec(variant, function, **changes), SHORT, aim or PaperAim(10.0))


def weights_target(wanted, *, holes=False):
    return Target(wanted, None if holes else lambda arch: arch.encoder_linear_params, f"{wanted:.0%} of the weights")


def spread_scores(pruner, seed=0, scale=3.0):
    """Random scores, so that blocks die at every threshold."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for mask in masks_of(pruner.layers):
            noise = torch.randn(mask.scores.shape, generator=generator) * scale
            mask.scores.copy_(noise + mask.rule.initial_score)


def trained(pruner, steps=10, rate=0.1):
    """A few real steps in a plain loop; the pruner is then at its last step."""
    torch.manual_seed(0)  # of dropout
    model = pruner.model.train()
    optimiser = torch.optim.AdamW(parameter_groups(model, pruner, score_learning_rate=rate * 4), lr=rate / 10)
    for step in range(steps):
        pruner.step(step)
        batch = tiny_batch(seed=step)
        labels = torch.arange(len(batch["input_ids"])) % 2
        loss = model(**batch, labels=labels).loss + pruner.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    return pruner
