"""One-shot pruning as a command asks for it, for ``prune`` and ``run`` alike: what it left open is filled in here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.runners.base import Precision
from bench.runners.registry import RUNNERS
from pruning.arch import ArchSpec
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.checkpoint import Checkpoint
from pruning.methods.choice import MethodChoice, method_for_target
from pruning.methods.oneshot import OneshotOptions, PruneResult, StageProgress, prune_oneshot
from tools.settings import PruneSettings

CPU_STEP, GPU_STEP, GPU_INT8_STEP = 32, 64, 128
"""FFN widths that suit the matrix units: CPUs have no cliffs, tensor cores want multiples of 64, in int8 of 128."""


@dataclass(frozen=True, eq=False)
class OneShotJob:
    """The dense model, its calibration texts, and how to prune it; ``ffn_multiple`` is the grid of FFN widths."""

    dense: Checkpoint
    calibration: Calibration
    request: PruneSettings
    ffn_multiple: int
    seed: int

    def prune(self, target: Budget | ArchSpec, progress: StageProgress) -> tuple[PruneResult, dict[str, Any]]:
        """Prune to ``target``, with the method that was asked for or the one that suits it.

        Returns:
            The model, and what its record says about how it came about.
        """
        asked = self.request
        choice = method_for_target(target) if asked.method is None else MethodChoice(asked.method)
        options = OneshotOptions(
            target, choice.method, asked.reconstruct, ffn_multiple=self.ffn_multiple, seed=self.seed
        )
        result = prune_oneshot(self.dense.model, self.calibration, options, progress)
        return result, {
            "method": choice.method.value,
            "ffn_multiple": self.ffn_multiple,
            "budget": None if isinstance(target, ArchSpec) else target.meaning,
            "calibration": list(self.calibration.sizes),
            "divergence": result.divergence,
            "divergence_unreconstructed": result.divergence_unreconstructed,
            "kept_reconstruction": result.kept_reconstruction,
            "reasons": self._reasons(choice),
            "warnings": list(self.calibration.warnings),
        }

    def _reasons(self, choice: MethodChoice) -> list[str]:
        """Why it is not as usual."""
        found = [] if choice.reason is None else [choice.reason]
        if self.request.ffn_multiple is None and self.ffn_multiple != CPU_STEP:
            found.append(f"FFN widths are multiples of {self.ffn_multiple}, which suit tensor cores.")
        return found


def width_step(asked: int | None, targets: Iterable[tuple[str, str]]) -> int:
    """The grid of FFN widths that was asked for, or one that suits every runtime and precision among ``targets``."""
    return asked or max((_step(runtime, dtype) for runtime, dtype in targets), default=CPU_STEP)


def _step(runtime: str, dtype: str) -> int:
    if not RUNNERS[runtime].on_gpu:
        return CPU_STEP
    return GPU_INT8_STEP if dtype == Precision.INT8 else GPU_STEP
