"""Which experiments to run, and how long each may take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.experiments.load import QueueRules, Rate
from bench.paired import BlockPlan
from pruning.errors import InputError

SHARES = tuple(Rate(share, relative=True) for share in (0.5, 0.7, 0.9))
DEFAULT_RULES = QueueRules()


class Experiment(StrEnum):
    """What can be measured. ``LATENCY`` is the paired comparison of ``bench.compare``; the rest is run here."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    LOAD = "load"
    COLD_START = "cold-start"
    PROFILE = "profile"


@dataclass(frozen=True)
class ExperimentPlan:
    """The experiments, and their extent.

    Args:
        names: of the experiments; `Experiment.LATENCY` is ignored here.
        largest_batch: at which a sweep ends even if throughput still grows.
        blocks: interleaved blocks at each batch size of a sweep, two calls each.
        rates: of arrivals.
        load_seconds: how long requests arrive, for each model and rate.
        rules: of the queue.
        repeats: fresh processes per model and state of the file cache.
        profile_calls: profiled calls per model, of which the faster half counts.

    Raises:
        InputError: if a number is out of range.
    """

    names: tuple[Experiment, ...]
    largest_batch: int = 64
    blocks: int = 5
    rates: tuple[Rate, ...] = SHARES
    load_seconds: float = 20.0
    rules: QueueRules = DEFAULT_RULES
    repeats: int = 5
    profile_calls: int = 20

    def __post_init__(self) -> None:
        if min(self.largest_batch, self.repeats, self.profile_calls) < 1 or self.blocks < 2:
            raise InputError(
                "experiments need a largest batch, repeats and profiled calls >= 1 and blocks >= 2; "
                f"got {self.largest_batch}, {self.repeats}, {self.profile_calls} and {self.blocks}."
            )
        if not self.load_seconds > 0:
            raise InputError(f"requests must arrive for more than 0 s; got {self.load_seconds:g}.")

    def block_plan(self, seed: int) -> BlockPlan:
        """Blocks of one batch size."""
        return BlockPlan(self.blocks, 2, seed)


def experiment_named(name: str) -> Experiment:
    """The experiment of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in list(Experiment):
        raise InputError(f"experiment {name!r} is unknown; available: {', '.join(Experiment)}.")
    return Experiment(name)


def rate_from_text(text: str) -> Rate:
    """``50%`` of the baseline's saturation, or ``20`` requests per second.

    Raises:
        InputError: if it is no number, or not positive.
    """
    number = text.strip().removesuffix("%")
    try:
        value = float(number)
    except ValueError as error:
        raise InputError(f"a rate is requests per second, or a share such as 70%; got {text!r}.") from error
    relative = text.strip().endswith("%")
    return Rate(value / 100 if relative else value, relative)
