"""One-shot pruning without labels: score, allocate, compact, reconstruct. Minutes on two cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from pruning.allocation import arch_from_budget, masks_from_scores, uniform_arch
from pruning.arch import ArchSpec
from pruning.batching import predict_from_model
from pruning.budget import Budget
from pruning.calibration import Calibration
from pruning.compaction import compact_from_masked
from pruning.divergence import divergence
from pruning.errors import InputError
from pruning.introspect import arch_from_model
from pruning.methods.names import Method
from pruning.reconstruction import reconstruct
from pruning.scores import Scores, fisher_scores, magnitude_scores, random_scores

StageProgress = Callable[[str, int, int], None]
"""Called with the phase, what is done and the total."""


@dataclass(frozen=True)
class OneshotOptions:
    """``target`` is a budget to allocate, or the shape itself; ``ffn_multiple`` is the grid of FFN widths."""

    target: Budget | ArchSpec
    method: Method = Method.FISHER
    reconstruct: bool = True
    ffn_multiple: int = 32
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PruneResult:
    """The compact model and how it came about.

    ``divergence`` and ``divergence_unreconstructed`` are distances to the dense model on texts that chose nothing (see
    `pruning.divergence`); the second is None without reconstruction. ``kept_reconstruction`` is False if held-out text
    showed that the reconstruction did harm and it was taken back. ``seconds`` is per phase.
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
    seconds: dict[str, float] = {}
    with _timed("score", seconds):
        scores = _scores(model, calibration, options, progress)
    arch = _target_arch(model, scores, options)
    with _timed("compact", seconds):
        dense = compact_from_masked(model)
        compact = compact_from_masked(model, masks_from_scores(scores, arch))
    kept = False
    plain = predict_from_model(compact)
    before = divergence(predict_from_model(model), plain, calibration.report)
    result = compact
    if options.reconstruct:
        with _timed("reconstruct", seconds):
            result = compact_from_masked(compact)
            reconstruct(result, dense, calibration.fit, calibration.select, progress=_phase(progress, "reconstruct"))
        original = predict_from_model(model)
        kept = divergence(original, predict_from_model(result), calibration.select) <= divergence(
            original, plain, calibration.select
        )
        result = result if kept else compact
    after = divergence(predict_from_model(model), predict_from_model(result), calibration.report)
    unreconstructed = before if options.reconstruct else None
    return PruneResult(result, arch_from_model(result), after, unreconstructed, kept, seconds)


def _scores(
    model: PreTrainedModel, calibration: Calibration, options: OneshotOptions, progress: StageProgress
) -> Scores:
    if options.method is Method.FISHER:
        return fisher_scores(model, calibration.fit, seed=options.seed, progress=_phase(progress, "score"))
    if options.method is Method.RANDOM:
        return random_scores(arch_from_model(model), options.seed)
    return magnitude_scores(model)


def _target_arch(model: PreTrainedModel, scores: Scores, options: OneshotOptions) -> ArchSpec:
    arch = arch_from_model(model)
    if isinstance(options.target, ArchSpec):
        return _fitting(options.target, arch)
    if options.method is Method.UNIFORM:
        return uniform_arch(arch, options.target, ffn_multiple=options.ffn_multiple)
    return arch_from_budget(arch, scores, options.target, ffn_multiple=options.ffn_multiple)


def _fitting(target: ArchSpec, arch: ArchSpec) -> ArchSpec:
    if (target.hidden, target.head_dim) != (arch.hidden, arch.head_dim):
        raise InputError(
            f"the shape is for hidden {target.hidden} and head_dim {target.head_dim}; the model has hidden "
            f"{arch.hidden} and head_dim {arch.head_dim}, which pruning does not change."
        )
    return target


def _phase(progress: StageProgress, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(phase, done, total)


@contextmanager
def _timed(phase: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[phase] = time.perf_counter() - start
