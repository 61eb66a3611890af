"""The models of a benchmark before it starts: their names, their files, and inputs that all of them accept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.cell import BASELINE
from bench.facts import artifact_facts
from bench.inputs import random_batches
from bench.result import BenchModel
from bench.runners.base import DEFAULTS, Runner, RunnerOptions
from pruning.batching import Batch
from pruning.errors import InputError

InputSource = Callable[[int, int], Sequence[Batch]]
"""Batches of B rows and at most S tokens: ``input_batches`` with its texts bound."""


def name_models(
    paths: Sequence[Path],
    labels: Sequence[str] | None = None,
    runtimes: Sequence[str | None] | None = None,
    dtypes: Sequence[str | None] | None = None,
) -> tuple[BenchModel, ...]:
    """The baseline and the candidates, each with its key, the name that people see, and what identifies its file.

    Args:
        paths: the baseline, then the candidates.
        labels: default: the names of their files or folders.
        runtimes: for each the runtime it is bound to, None for the cell's; default: the cell's for all.
        dtypes: for each the precision it is bound to, None for that of the settings; default: theirs for all.

    Raises:
        InputError: if there is no candidate, a path holds nothing that can be run, or a precision is none.
    """
    if len(paths) < 2:
        raise InputError("nothing to compare the baseline with; name at least one candidate.")
    bound, rounded = runtimes or [None] * len(paths), dtypes or [None] * len(paths)
    if labels is None:
        names = [path.resolve().name for path in paths]
        shown = names if len(set(names)) == len(set(paths)) else [str(path) for path in paths]
        labels = [_label(*parts) for parts in zip(shown, bound, rounded, strict=True)]
    keys = [BASELINE, *(f"candidate-{index + 1}" for index in range(len(paths) - 1))]
    return tuple(
        BenchModel(key, label, str(path), runtime, artifact_facts(path), dtype)
        for key, label, path, runtime, dtype in zip(keys, labels, paths, bound, rounded, strict=True)
    )


def _label(name: str, runtime: str | None, dtype: str | None) -> str:
    where = " ".join(word for word in (runtime, dtype) if word)
    return f"{name} @ {where}" if where else name


def prepare_models(
    runner_class: type[Runner], models: Sequence[BenchModel], scratch: Path, options: RunnerOptions = DEFAULTS
) -> dict[str, Path]:
    """What a runtime loads for each model, by key; each has a folder of its own in ``scratch``.

    Raises:
        InputError: if the runtime cannot take a model.
    """
    prepared = {}
    for model in models:
        folder = scratch / model.key
        folder.mkdir()
        prepared[model.key] = runner_class.prepare(Path(model.path), folder, options)
    return prepared


def random_source(runners: Mapping[str, Runner], seed: int) -> InputSource:
    """Random ids that every model knows.

    Raises:
        InputError: if the vocabulary size of a model is not known.
    """
    sizes = [runner.limits.vocab_size for runner in runners.values()]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        raise InputError(
            "the vocabulary size of an ONNX file is unknown, so no random inputs can be drawn. "
            "Put its config.json beside it, or pass texts with --data."
        )
    return partial(random_batches, min(known), seed=seed)


def checked_inputs(runners: Mapping[str, Runner], source: InputSource, batch: int, seq: int) -> Sequence[Batch]:
    """Inputs of one cell that every contestant accepts: an id out of range would otherwise fail deep in a runtime.

    Raises:
        InputError: if the sequence is too long for a model, or an id is beyond a vocabulary.
    """
    limits = [runner.limits for runner in runners.values()]
    longest = min((x.max_positions for x in limits if x.max_positions is not None), default=seq)
    if seq > longest:
        raise InputError(f"sequence length {seq} is beyond the {longest} positions of a model.")
    batches = source(batch, seq)
    largest = max(int(item["input_ids"].max()) for item in batches)
    smallest = min((x.vocab_size for x in limits if x.vocab_size is not None), default=largest + 1)
    if largest >= smallest:
        raise InputError(
            f"the texts use token id {largest}, but a model knows only {smallest} ids. "
            "Compare models of one vocabulary, or use random ids."
        )
    return batches
