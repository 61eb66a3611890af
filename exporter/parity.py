"""Do two stages of one model agree? Compared case by case, where agreement means something.

Letters: B batch, S sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.batching import Batch, Predict
from pruning.errors import InputError

FP32_TOLERANCE = 1e-4
"""Largest difference that two fp32 implementations may show on outputs of magnitude 1 or less."""
FP16_TOLERANCE = 1e-2
"""The same for an fp16 graph beside the fp32 model: about 20 roundings of 2^-11. MiniLM-L6 stays under 3e-3."""
INT8_TOLERANCE = 0.75
"""The same for int8, for a single value: a coarse bound that a wrong mask or weight breaks. MiniLM-L6 stays under 0.35,
pruned to a third under 0.65; a mask that is ignored makes it 0.9 to 1.7 in the case with left padding. How
good int8 is on the whole is what `exporter.int8.check` measures."""
TOLERANCES = {"fp32": FP32_TOLERANCE, "fp16": FP16_TOLERANCE, "int8": INT8_TOLERANCE}

ONE_VALUE_PER_TOKEN = ("start_logits", "end_logits")
CASES = (
    ("one token", 1, 1, "none"),
    ("one row", 1, 7, "none"),
    ("no padding", 2, 16, "none"),
    ("right padding", 4, 21, "right"),
    ("left padding", 4, 19, "left"),
    ("holes", 4, 23, "holes"),
    ("row without a token", 3, 11, "empty row"),
)
"""Name, rows, length and mask of each case, beside the two at the position limit."""


@dataclass(frozen=True)
class Parity:
    """How far one artifact was from its reference in one case.

    ``tolerance`` is the one that was applied, scaled to the outputs; ``max_abs_diff`` is infinite if an output was
    not finite or had another shape.
    """

    artifact: str
    case: str
    max_abs_diff: float
    tolerance: float
    passed: bool


class ParityError(RuntimeError):
    """An artifact does not answer like the model it came from: a bug of ours, with the numbers."""

    def __init__(self, failed: Sequence[Parity]) -> None:
        self.failed = tuple(failed)
        cases = "; ".join(f"{x.case}: {x.max_abs_diff:.2e} > {x.tolerance:.1e}" for x in self.failed)
        super().__init__(
            f"{self.failed[0].artifact} does not answer like the model ({cases}). "
            "This is a bug in slimbert: please report it with the model's config.json."
        )


def check_parity(
    reference: Predict, candidate: Predict, batches: Mapping[str, Batch], *, artifact: str, tolerance: float
) -> tuple[Parity, ...]:
    """Largest difference between two implementations of one model, for each batch.

    Outputs per token are compared where the mask keeps the token: what stands at padding is nobody's answer.
    Outputs per row are always compared, rows without a token included. An output that is not finite fails
    wherever it stands. The tolerance holds for outputs up to 1 and grows with them: it is multiplied by the
    largest magnitude that the reference gives in the case, if that is above 1, because rounding errors of
    floating point grow with the numbers.

    Args:
        reference: the truth, for example the PyTorch model.
        candidate: the implementation in doubt.
        batches: a name for each case, and its inputs.
        artifact: what the candidate is, for the report.
        tolerance: largest allowed difference for outputs up to 1, for example `FP32_TOLERANCE`.

    Raises:
        InputError: if the reference itself is not finite, or the candidate lacks one of its outputs.
    """
    results = []
    for case, batch in batches.items():
        expected, found = reference(batch), candidate(batch)
        _check_outputs(expected, found, artifact, case)
        kept = {name: kept_values(name, value, batch["attention_mask"]) for name, value in expected.items()}
        largest = max((float(x.abs().max()) for x in kept.values() if x.numel()), default=0.0)
        allowed = tolerance * max(1.0, largest)
        worst = max(_difference(name, expected[name], found[name], batch["attention_mask"]) for name in expected)
        results.append(Parity(artifact, case, worst, allowed, worst <= allowed))
    return tuple(results)


def require_parity(results: Sequence[Parity]) -> None:
    """Do nothing if every case passed.

    Raises:
        ParityError: naming the cases that did not.
    """
    failed = [result for result in results if not result.passed]
    if failed:
        raise ParityError(failed)


def kept_values(name: str, output: Tensor, mask: Tensor) -> Tensor:
    """The values of an output that mean something: (N,) or (N, ...) where the mask keeps a token, or all rows.

    Args:
        name: of the output; span logits (B, S) look like class logits (B, labels) and only the name tells.
        output: (B, S), (B, S, ...) or (B, labels).
        mask: (B, S), 0 = padding.
    """
    per_token = name in ONE_VALUE_PER_TOKEN or output.dim() == 3
    return output[mask.bool()] if per_token else output


def parity_batches(vocab_size: int, max_positions: int, seed: int, *, token_types: int = 2) -> dict[str, Batch]:
    """Inputs that have found wrong graphs: every kind of mask, odd lengths, one row and several, the position limit.

    Token ids are random, under padding too, so that a mask that is ignored shows.

    Args:
        vocab_size: token ids are below it.
        max_positions: the longest sequence; shorter cases are cut to it.
        seed: the same seed gives the same inputs.
        token_types: token type ids are below it.
    """
    generator = torch.Generator().manual_seed(seed)
    limits = (("just under the limit", 1, max_positions - 1, "right"), ("at the limit", 1, max_positions, "none"))
    batches = {}
    for case, rows, length, padding in (*CASES, *limits):
        size = (rows, min(max(length, 1), max_positions))
        batches[case] = {
            "input_ids": torch.randint(vocab_size, size, generator=generator),
            "attention_mask": _mask(size, padding, generator).long(),
            "token_type_ids": torch.randint(token_types, size, generator=generator),
        }
    return batches


def is_right_padded(mask: Tensor) -> bool:
    """Whether no row of a mask (B, S) has a token after padding; a row without any token counts as padded."""
    return not bool((mask[:, 1:] > mask[:, :-1]).any())


def sentence_embeddings(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the tokens' states scaled to length 1, (B, E); 0 for a row without a token.

    Source: Sentence-BERT, Reimers and Gurevych 2019, arXiv:1908.10084.

    Args:
        states: (B, S, E).
        mask: (B, S), 0 = padding.
    """
    kept = mask[:, :, None].to(states.dtype)
    mean = (states * kept).sum(1) / kept.sum(1).clamp(min=1.0)
    return torch.nn.functional.normalize(mean, dim=-1)


def _mask(size: tuple[int, int], padding: str, generator: torch.Generator) -> Tensor:
    """Bool (B, S), True = token. The first of several rows has no padding; in holes its first token is missing."""
    rows, length = size
    kept = torch.randint(1, length + 1, (rows, 1), generator=generator)
    kept[0] = length if rows > 1 else max(1, 3 * length // 4)
    position = torch.arange(length).expand(size)
    holes = torch.rand(size, generator=generator) < 0.6
    holes[:, -1], holes[0, 0] = True, length == 1
    empty_row = position < kept
    empty_row[-1] = False
    masks = {
        "none": torch.ones(size, dtype=torch.bool),
        "right": position < kept,
        "left": position >= length - kept,
        "holes": holes,
        "empty row": empty_row,
    }
    return masks[padding]


def _check_outputs(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], artifact: str, case: str) -> None:
    for name, value in expected.items():
        if not torch.isfinite(value).all():
            raise InputError(
                f"the reference gives {name} that is not finite ({case}): its weights are NaN, infinite or huge. "
                "Use a model that answers."
            )
        if name not in found:
            raise InputError(
                f"{artifact} has no output {name}; it has {', '.join(found)}. Compare models with the same head."
            )


def _difference(name: str, expected: Tensor, found: Tensor, mask: Tensor) -> float:
    if expected.shape != found.shape or not torch.isfinite(found).all():
        return math.inf
    gap = kept_values(name, expected, mask) - kept_values(name, found, mask)
    return float(gap.abs().max()) if gap.numel() else 0.0
