"""Which shapes a TensorRT engine is made for: named ranges of batch size and sequence length.

An engine is tuned at the optimum of each profile and refuses shapes outside all of them, so several narrow profiles
beat one wide one. Standard library only. Letters: B batch, S sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pruning.arch import ArchSpec
from pruning.errors import InputError

SHORT_SEQUENCE, USUAL_LONG_SEQUENCE = 128, 256
LARGE_BATCH, USUAL_LARGE_BATCH = 32, 8
Range = tuple[int, int, int]
"""Smallest, optimal and largest value."""


@dataclass(frozen=True)
class ProfileShapes:
    """One optimization profile: ``batch`` and ``sequence`` as (smallest, optimal, largest).

    Raises:
        InputError: if the name is empty, or a range is not made of three increasing integers from 1.
    """

    name: str
    batch: Range
    sequence: Range

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError("an optimization profile needs a name, such as 'b1_s128'.")
        for what in ("batch", "sequence"):
            values = tuple(getattr(self, what))
            object.__setattr__(self, what, values)
            if len(values) != 3 or any(type(x) is not int for x in values) or values[0] < 1:
                raise InputError(f"{what} of profile {self.name} must be three integers from 1; got {values}.")
            if list(values) != sorted(values):
                raise InputError(
                    f"{what} of profile {self.name} must be (smallest, optimal, largest), increasing; got {values}."
                )

    @property
    def corners(self) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Smallest, optimal and largest shape (B, S), the form that TensorRT takes."""
        low, best, high = zip(self.batch, self.sequence, strict=True)
        return low, best, high

    def holds(self, batch: int, sequence: int) -> bool:
        """Whether a shape is inside this profile."""
        return self.batch[0] <= batch <= self.batch[2] and self.sequence[0] <= sequence <= self.sequence[2]

    def to_dict(self) -> dict[str, object]:
        """Plain data, as stored beside an engine."""
        return {"name": self.name, "batch": list(self.batch), "sequence": list(self.sequence)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ProfileShapes:
        """Read what `to_dict` wrote.

        Raises:
            InputError: if a key is missing or a value has the wrong type.
        """
        try:
            name, batch, sequence = data["name"], data["batch"], data["sequence"]
            return cls(str(name), tuple(batch), tuple(sequence))  # type: ignore[arg-type]  # checked on construction
        except (KeyError, TypeError) as error:
            raise InputError(f"not an optimization profile: {str(data)[:200]}.") from error

    def __str__(self) -> str:
        return (
            f"{self.name} (batch {self.batch[0]} to {self.batch[2]}, sequence {self.sequence[0]} to {self.sequence[2]})"
        )


def profile_from_text(text: str) -> ProfileShapes:
    """A profile as a command line says it: ``NAME=BATCH:SEQUENCE``, each as smallest,optimal,largest.

    Raises:
        InputError: if the text has another form, or the numbers make no profile.
    """
    name, _, shapes = text.partition("=")
    try:
        batch, sequence = (tuple(map(int, part.split(","))) for part in shapes.split(":"))
    except ValueError as error:
        raise InputError(
            f"a profile is NAME=BATCH:SEQUENCE, each as smallest,optimal,largest, such as small=1,1,4:1,64,128; "
            f"got {text!r}."
        ) from error
    return ProfileShapes(name, batch, sequence)  # type: ignore[arg-type]  # checked on construction


def default_profiles(arch: ArchSpec, max_sequence: int) -> tuple[ProfileShapes, ...]:
    """Batch 1 and batch 1 to 32, each with sequences to 128 and to the model's limit.

    A profile that holds batch 1 alone makes the batch a constant. The scores of a layer of one head are then plain
    matrices, for which TensorRT-RTX 1.7 has no fused attention: such an architecture gets profiles to batch 2 instead.

    Args:
        arch: of the encoder.
        max_sequence: the model's position limit.

    Raises:
        InputError: if ``max_sequence`` is below 1.
    """
    if max_sequence < 1:
        raise InputError(f"the longest sequence must be at least 1; got {max_sequence}.")
    small = 2 if 1 in arch.heads else 1
    lengths = sorted({min(SHORT_SEQUENCE, max_sequence), max_sequence})
    batches = ((1, (1, 1, small)), (LARGE_BATCH, (1, USUAL_LARGE_BATCH, LARGE_BATCH)))
    return tuple(
        ProfileShapes(f"b{name}_s{length}", batch, (1, min(length, USUAL_LONG_SEQUENCE), length))
        for name, batch in batches
        for length in lengths
    )


def check_profiles(profiles: Sequence[ProfileShapes], max_sequence: int | None) -> None:
    """Do nothing if an engine can have these profiles.

    Args:
        profiles: in the engine's order.
        max_sequence: the model's position limit, None if unknown.

    Raises:
        InputError: if there is none, two share a name, or one goes beyond the position limit.
    """
    if not profiles:
        raise InputError("an engine needs at least one optimization profile; got none.")
    names = [profile.name for profile in profiles]
    if len(set(names)) != len(names):
        raise InputError(f"every optimization profile needs its own name; got {', '.join(names)}.")
    for profile in profiles:
        if max_sequence is not None and profile.sequence[2] > max_sequence:
            raise InputError(
                f"profile {profile} goes beyond the model's {max_sequence} positions; shorten its sequences."
            )


def profile_index(profiles: Sequence[ProfileShapes], batch: int, sequence: int) -> int:
    """The narrowest profile that holds a shape: smallest largest shape, then the earlier one.

    Raises:
        InputError: if no profile holds it; the profiles are named.
    """
    fitting = [index for index, profile in enumerate(profiles) if profile.holds(batch, sequence)]
    if not fitting:
        raise InputError(
            f"batch {batch}, sequence {sequence} is outside the engine's profiles: {'; '.join(map(str, profiles))}. "
            "Change the shape, or build the engine with a profile for it."
        )
    return min(fitting, key=lambda index: profiles[index].batch[2] * profiles[index].sequence[2])
