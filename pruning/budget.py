"""What a smaller model may cost: a price per head and per neuron, and a limit on their sum.

A price is a number per unit that is kept, in FLOPs or parameters. A latency table would give one price per level
instead; it has its place in `allocation`, which takes prices per level.
"""

from __future__ import annotations

from dataclasses import dataclass

from pruning.arch import ArchSpec, head_flops, head_params, neuron_flops, neuron_params
from pruning.errors import InputError


@dataclass(frozen=True)
class Budget:
    """``head_price`` and ``neuron_price`` per unit kept, ``limit`` on the sum, and its ``meaning`` in words."""

    head_price: int
    neuron_price: int
    limit: float
    meaning: str

    def spent(self, arch: ArchSpec) -> int:
        """What ``arch`` costs."""
        return sum(self.head_price * x.heads + self.neuron_price * x.ffn for x in arch.layers)


def flops_budget(arch: ArchSpec, speedup: float, sequence: int) -> Budget:
    """The encoder's FLOPs at ``sequence`` tokens, divided by ``speedup``.

    Raises:
        InputError: if the speedup is below 1, or so large that not even one unit could stay.
    """
    full, head, neuron = arch.encoder_flops(sequence), head_flops(arch, sequence), neuron_flops(arch, sequence)
    reachable = full / min(head, neuron)
    if not 1 <= speedup <= reachable:
        raise InputError(
            f"a speedup must be at least 1 and at most {reachable:.0f}, the largest that this model can reach "
            f"(in encoder FLOPs, with one neuron left); got {speedup:g}."
        )
    return Budget(head, neuron, full / speedup, f"encoder FLOPs / {speedup:g} at sequence {sequence}")


def density_budget(arch: ArchSpec, density: float) -> Budget:
    """A fraction of the encoder's matrix weights.

    Raises:
        InputError: unless the density is above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise InputError(f"a density must be above 0 and at most 1; got {density:g}. 0.5 keeps half of the weights.")
    limit = density * arch.encoder_linear_params
    return Budget(head_params(arch), neuron_params(arch), limit, f"{density:.0%} of the encoder's matrix weights")


def params_budget(arch: ArchSpec, params: int, current: int) -> Budget:
    """A number of parameters for the whole model, biases and embeddings included.

    Args:
        arch: of the model to prune.
        params: allowed in the result.
        current: parameters of the model to prune.

    Raises:
        InputError: if ``params`` is more than the model has, or less than it has without any head and neuron.
    """
    head, neuron = head_params(arch) + 3 * arch.head_dim, neuron_params(arch) + 1
    fixed = current - sum(head * x.heads + neuron * x.ffn for x in arch.layers)
    if not fixed + neuron <= params <= current:
        raise InputError(
            f"the model has {current:,} parameters, of which {fixed:,} can not be pruned (embeddings, norms, head); "
            f"ask for something between; got {params:,}."
        )
    return Budget(head, neuron, params - fixed, f"{params:,} parameters")
