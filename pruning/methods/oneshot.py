"""One-shot pruning without labels: score, allocate, compact, reconstruct. Minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedModel

from pruning.allocation import (
    arch_from_budget,
    arch_from_levels,
    masks_from_scores,
    only_whole,
    uniform_arch,
)
from pruning.arch import ArchSpec
from pruning.batching import Batch, predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.compaction import compact_from_masked
from pruning.divergence import divergences
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.methods.names import Method
from pruning.reconstruction import WeightedBatches, reconstruct
from pruning.removal_paths import levels_from_paths, removal_paths, scores_from_paths
from pruning.scores import Progress, Scores, fisher_scores, magnitude_scores, random_scores
from pruning.sensitivity import Sensitivity, output_sensitivity

StageProgress = Callable[[str, int, int], None]
"""Called with the phase, what is done and the total."""


@dataclass(frozen=True)
class OneshotOptions:
    """``target`` is a budget to allocate, or the shape itself; ``ffn_multiple`` is the grid of FFN widths."""

    target: Budget | ArchSpec
    method: Method = Method.ONESHOT
    reconstruct: bool = True
    ffn_multiple: int = 32
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PruneResult:
    """The compact model and how it came about.

    ``divergence`` and ``divergence_unreconstructed`` are distances to the dense model on texts that chose nothing (see
    `pruning.divergence`); the second is None without reconstruction. ``kept_reconstruction`` is False if held-out text
    showed that reconstruction did harm and it was taken back. ``seconds`` is per phase.
    """

    model: PreTrainedModel
    arch: ArchSpec
    divergence: float
    divergence_unreconstructed: float | None
    kept_reconstruction: bool
    seconds: dict[str, float] = field(default_factory=dict)


def prune_oneshot(
    model: PreTrainedModel,
    calibration: Calibration,
    options: OneshotOptions,
    progress: StageProgress = lambda phase, done, total: None,
) -> PruneResult:
    """Prune ``model`` to the target and refit what is left; the input is not modified.

    Raises:
        InputError: if the target cannot be met, or a score or statistic is not finite.
    """
    work = _Work(model, calibration, options, progress)
    with _timed("score", work.seconds):
        scores, arch = _scores_and_arch(work)
    with _timed("compact", work.seconds):
        pruned = compact_from_masked(work.dense, masks_from_scores(scores, arch))
    if not options.reconstruct:
        (distance,) = work.divergences([pruned], calibration.report)
        return PruneResult(pruned, arch_from_model(pruned), distance, None, False, work.seconds)
    with _timed("reconstruct", work.seconds):
        result, kept = _reconstructed(pruned, work)
    after, before = work.divergences([result, pruned], calibration.report)
    return PruneResult(result, arch_from_model(result), after, before, kept, work.seconds)


class _Work:
    """What the phases share: the dense model, what it says about the texts, and the clock."""

    def __init__(
        self, model: PreTrainedModel, calibration: Calibration, options: OneshotOptions, progress: StageProgress
    ) -> None:
        self.model, self.dense = model, compact_from_masked(model)
        self.calibration, self.options, self.progress = calibration, options, progress
        self.seconds: dict[str, float] = {}

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """Of the dense model on the texts to fit on."""
        report = self.phase("score")
        return output_sensitivity(self.dense, self.calibration.fit, seed=self.options.seed, progress=report)

    @property
    def fit(self) -> WeightedBatches:
        """The texts to fit on."""
        return WeightedBatches(self.calibration.fit, self.sensitivity.weights)

    @property
    def select(self) -> WeightedBatches:
        """The texts to choose with."""
        found = output_sensitivity(self.dense, self.calibration.select, seed=self.options.seed)
        return WeightedBatches(self.calibration.select, found.weights)

    def divergences(self, models: Sequence[PreTrainedModel], batches: Sequence[Batch]) -> list[float]:
        """Distance of each of ``models`` to the dense one."""
        return divergences(predict_from_model(self.model), [predict_from_model(x) for x in models], batches)

    def phase(self, name: str) -> Progress:
        """Progress within one phase."""
        return lambda done, total: self.progress(name, done, total)


def _scores_and_arch(work: _Work) -> tuple[Scores, ArchSpec]:
    """Which units to keep first, and how many of them."""
    arch, options, target = arch_from_model(work.dense), work.options, work.options.target
    if isinstance(target, ArchSpec):
        _check_frame(target, arch)
    if options.method in (Method.ONESHOT, Method.DROP):
        return _second_order(work)
    scores = _single_scores(work)
    if isinstance(target, ArchSpec):
        return scores, target
    if options.method is Method.UNIFORM:
        return scores, uniform_arch(arch, target, ffn_multiple=options.ffn_multiple)
    return scores, arch_from_budget(arch, scores, target, ffn_multiple=options.ffn_multiple)


def _second_order(work: _Work) -> tuple[Scores, ArchSpec]:
    target, multiple, report = work.options.target, work.options.ffn_multiple, work.phase("order")
    paths = removal_paths(work.dense, work.calibration.fit, work.sensitivity, ffn_multiple=multiple, progress=report)
    scores = scores_from_paths(paths)
    if isinstance(target, ArchSpec):
        return scores, target
    levels = levels_from_paths(paths, target.prices)
    if work.options.method is Method.DROP:
        levels = [only_whole(level) for level in levels]
    return scores, arch_from_levels(arch_from_model(work.dense), levels, target)


def _single_scores(work: _Work) -> Scores:
    if work.options.method is Method.FISHER:
        return fisher_scores(work.dense, work.calibration.fit, seed=work.options.seed, progress=work.phase("score"))
    if work.options.method is Method.RANDOM:
        return random_scores(arch_from_model(work.dense), work.options.seed)
    return magnitude_scores(work.dense)


def _reconstructed(pruned: PreTrainedModel, work: _Work) -> tuple[PreTrainedModel, bool]:
    """The model refitted, or as it was if held-out text shows harm; and whether it was kept."""
    result = compact_from_masked(pruned)
    reconstruct(result, work.dense, work.fit, work.select, progress=work.phase("reconstruct"))
    after, before = work.divergences((result, pruned), work.calibration.select)
    return (result, True) if after <= before else (pruned, False)


def _check_frame(target: ArchSpec, arch: ArchSpec) -> None:
    if (target.hidden, target.head_dim) != (arch.hidden, arch.head_dim):
        raise InputError(
            f"the shape is for hidden {target.hidden} and head_dim {target.head_dim}; the model has hidden "
            f"{arch.hidden} and head_dim {arch.head_dim}, which pruning does not change."
        )


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start
