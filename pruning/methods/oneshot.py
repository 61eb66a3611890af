"""One-shot pruning without labels: score, allocate, compact, reconstruct. Minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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

ONE_ROUND = 2.0
"""Up to this many times smaller, a second round does not pay."""


@dataclass(frozen=True)
class OneshotOptions:
    """``target`` is a budget to allocate, or the shape itself; ``ffn_multiple`` is the grid of FFN widths.

    ``rounds``: score and reconstruct again at as many budgets on the way, evenly spaced in ratio; None takes one up to
    2x and two beyond. A shape is reached in one round.

    Raises:
        InputError: if ``rounds`` is below 1.
    """

    target: Budget | ArchSpec
    method: Method = Method.ONESHOT
    reconstruct: bool = True
    ffn_multiple: int = 32
    rounds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise InputError(f"rounds must be at least 1; got {self.rounds}.")


@dataclass(frozen=True, eq=False)
class PruneResult:
    """The compact model and how it came about.

    ``divergence`` and ``divergence_unreconstructed`` are distances to the dense model on texts that chose nothing (see
    `pruning.divergence`); the second is None without reconstruction, and otherwise that of the last round's model.
    ``kept_reconstruction`` is False if held-out text showed that the last reconstruction did harm and it was taken
    back. ``seconds`` is per phase, summed over ``rounds``.
    """

    model: PreTrainedModel
    arch: ArchSpec
    divergence: float
    divergence_unreconstructed: float | None
    kept_reconstruction: bool
    rounds: int = 1
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
    targets = _targets(arch_from_model(model), options)
    pruned = current = work.dense
    kept = False
    for target in targets:
        with _timed("score", work.seconds):
            scores, arch = _scores_and_arch(current, target, work)
        with _timed("compact", work.seconds):
            pruned = current = compact_from_masked(current, masks_from_scores(scores, arch))
        if options.reconstruct:
            with _timed("reconstruct", work.seconds):
                current, kept = _reconstructed(pruned, work)
    models = (current, pruned) if options.reconstruct else (current,)
    after, *before = work.divergences(models, calibration.report)
    unreconstructed = before[0] if before else None
    return PruneResult(current, arch_from_model(current), after, unreconstructed, kept, len(targets), work.seconds)


class _Work:
    """What the rounds share: the dense model, what it says about the texts, and the clock."""

    def __init__(
        self, model: PreTrainedModel, calibration: Calibration, options: OneshotOptions, progress: StageProgress
    ) -> None:
        self.model, self.dense = model, compact_from_masked(model)
        self.calibration, self.options, self.progress = calibration, options, progress
        self.seconds: dict[str, float] = {}

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """Of the dense model on the texts to fit on."""
        return self.sensitivity_of(self.dense)

    @cached_property
    def fit(self) -> WeightedBatches:
        """The texts to fit on."""
        return WeightedBatches(self.calibration.fit, self.sensitivity.weights)

    @cached_property
    def select(self) -> WeightedBatches:
        """The texts to choose with."""
        found = output_sensitivity(self.dense, self.calibration.select, seed=self.options.seed)
        return WeightedBatches(self.calibration.select, found.weights)

    def sensitivity_of(self, model: PreTrainedModel) -> Sensitivity:
        """Of ``model`` on the texts to fit on."""
        report = self.phase("score")
        return output_sensitivity(model, self.calibration.fit, seed=self.options.seed, progress=report)

    def divergences(self, models: Sequence[PreTrainedModel], batches: Sequence[Batch]) -> list[float]:
        """Distance of each of ``models`` to the dense one."""
        return divergences(predict_from_model(self.model), [predict_from_model(x) for x in models], batches)

    def phase(self, name: str) -> Progress:
        """Progress within one phase."""
        return lambda done, total: self.progress(name, done, total)


def _targets(arch: ArchSpec, options: OneshotOptions) -> list[Budget] | list[ArchSpec]:
    """One per round: the shape, or budgets down to the one that was asked for."""
    target = options.target
    if isinstance(target, ArchSpec):
        return [_fitting(target, arch)]
    full = target.spent(arch)
    ratio = max(round(full / target.limit, 6), 1.0) if target.limit > 0 else 1.0  # 2 is 2, whatever was rounded
    rounds = options.rounds or (1 if ratio <= ONE_ROUND else 2)
    shares = [(rounds - index) / rounds for index in range(1, rounds)]  # of the way that is still to go
    return [*(replace(target, limit=target.limit * ratio**share) for share in shares), target]


def _scores_and_arch(model: PreTrainedModel, target: Budget | ArchSpec, work: _Work) -> tuple[Scores, ArchSpec]:
    """Which units to keep first, and how many of them."""
    arch, options = arch_from_model(model), work.options
    if options.method in (Method.ONESHOT, Method.DROP):
        return _second_order(model, target, work)
    scores = _single_scores(model, work)
    if isinstance(target, ArchSpec):
        return scores, target
    if options.method is Method.UNIFORM:
        return scores, uniform_arch(arch, target, ffn_multiple=options.ffn_multiple)
    return scores, arch_from_budget(arch, scores, target, ffn_multiple=options.ffn_multiple)


def _second_order(model: PreTrainedModel, target: Budget | ArchSpec, work: _Work) -> tuple[Scores, ArchSpec]:
    sensitivity = work.sensitivity if model is work.dense else work.sensitivity_of(model)
    multiple, arch = work.options.ffn_multiple, arch_from_model(model)
    paths = removal_paths(model, work.calibration.fit, sensitivity, ffn_multiple=multiple, progress=work.phase("order"))
    scores = scores_from_paths(paths)
    if isinstance(target, ArchSpec):
        return scores, target
    levels = levels_from_paths(paths, target.prices)
    if work.options.method is Method.DROP:
        levels = [only_whole(level) for level in levels]
    return scores, arch_from_levels(arch, levels, target)


def _single_scores(model: PreTrainedModel, work: _Work) -> Scores:
    if work.options.method is Method.FISHER:
        return fisher_scores(model, work.calibration.fit, seed=work.options.seed, progress=work.phase("score"))
    if work.options.method is Method.RANDOM:
        return random_scores(arch_from_model(model), work.options.seed)
    return magnitude_scores(model)


def _reconstructed(pruned: PreTrainedModel, work: _Work) -> tuple[PreTrainedModel, bool]:
    """The model refitted, or as it was if held-out text shows harm; and whether it was kept."""
    result = compact_from_masked(pruned)
    reconstruct(result, work.dense, work.fit, work.select, progress=work.phase("reconstruct"))
    after, before = work.divergences((result, pruned), work.calibration.select)
    return (result, True) if after <= before else (pruned, False)


def _fitting(target: ArchSpec, arch: ArchSpec) -> ArchSpec:
    if (target.hidden, target.head_dim) != (arch.hidden, arch.head_dim):
        raise InputError(
            f"the shape is for hidden {target.hidden} and head_dim {target.head_dim}; the model has hidden "
            f"{arch.hidden} and head_dim {arch.head_dim}, which pruning does not change."
        )
    return target


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start
