"""PyTorch's profiler, with every operator charged to the module that called it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from bench.profiling.breakdown import ProfiledCall, Work
from bench.profiling.places import place_from_name
from pruning.batching import Batch
from pruning.checkpoint import load_checkpoint

CALL = "slimbert.call"
MODULE = "slimbert.module "
US_PER_MS = 1_000.0


def profile_checkpoint(path: Path, batches: Sequence[Batch], threads: int, scratch: Path) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch, eager on the CPU; the model is loaded for it and thrown away.

    Args:
        path: of the checkpoint.
        batches: to run.
        threads: of PyTorch, put back afterwards.
        scratch: not needed here.
    """
    model = load_checkpoint(path).model.eval()
    model.set_attn_implementation("sdpa")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return profile_module(model, batches)
    finally:
        torch.set_num_threads(before)


def profile_module(model: nn.Module, batches: Sequence[Batch]) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch."""
    with named_modules(model), torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        for batch in batches:
            with record_function(CALL):
                model(**batch)
    roots = [event for event in profiler.events() if event.name == CALL]
    return tuple(call_from_root(root) for root in roots)


@contextmanager
def named_modules(model: nn.Module) -> Iterator[None]:
    """Mark in the profile where each module begins and ends."""
    open_ranges: list[Any] = []

    def enter(name: str) -> Any:
        def hook(module: nn.Module, arguments: object) -> None:
            open_ranges.append(record_function(f"{MODULE}{name}"))
            open_ranges[-1].__enter__()

        return hook

    def leave(module: nn.Module, arguments: object, output: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    handles = [
        handle
        for name, module in model.named_modules()
        for handle in (module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def call_from_root(root: Any) -> ProfiledCall:
    """Charge the own time of every operator below one event to the innermost module around it."""
    work_ms: dict[Work, float] = {}

    def visit(event: Any, module: str) -> None:
        inner = event.name.removeprefix(MODULE) if event.name.startswith(MODULE) else module
        if not event.name.startswith(MODULE) and event is not root:
            operator = event.name.removeprefix("aten::")
            work = Work(f"{inner}/{operator}", operator, place_from_name(inner))
            work_ms[work] = work_ms.get(work, 0.0) + event.self_cpu_time_total / US_PER_MS
        for child in event.cpu_children:
            visit(child, inner)

    visit(root, "")
    return ProfiledCall(root.cpu_time_total / US_PER_MS, work_ms)
