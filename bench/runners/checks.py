"""Whether models may be compared at all: the same question, the same kind of answer, the same precision."""

from __future__ import annotations

from collections.abc import Mapping

from bench.runners.base import Runner
from pruning.errors import InputError


def check_comparable(runners: Mapping[str, Runner], baseline: str, *, mixed_precision: bool = False) -> None:
    """Do nothing if every runner reads and answers what the baseline does, in its precision.

    Args:
        runners: by name.
        baseline: name of the one to compare with.
        mixed_precision: precisions may differ, because that was asked for.

    Raises:
        InputError: naming the first that differs, and how.
    """
    reference = runners[baseline]
    for name, runner in runners.items():
        for kind, found, wanted in (
            ("reads", runner.input_names, reference.input_names),
            ("answers with", runner.output_names, reference.output_names),
        ):
            if set(found) != set(wanted):
                raise InputError(
                    f"{name} {kind} {', '.join(found)}, but the baseline {kind} {', '.join(wanted)}. "
                    "Compare models of one task with the same inputs and outputs."
                )
        if runner.dtype != reference.dtype and not mixed_precision:
            raise InputError(
                f"{name} computes in {runner.dtype}, but the baseline in {reference.dtype}. "
                "Name one precision with --dtype, or allow it with --mixed-precision."
            )
