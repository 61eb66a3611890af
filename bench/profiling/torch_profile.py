"""PyTorch's profiler, with every operator charged to the module that called it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from bench.profiling.breakdown import ProfiledCall, Work
from bench.profiling.places import place_from_name
from bench.profiling.request import ProfileRequest
from bench.runners.torch_model import torch_model
from pruning.batching import Batch

CALL = "slimbert.call"
MODULE = "slimbert.module "
US_PER_MS = 1_000.0


def profile_checkpoint(request: ProfileRequest) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch, eager on the CPU in the precision asked for; the model is loaded for it."""
    model = torch_model(request.path, request.options.dtype)
    before = torch.get_num_threads()
    torch.set_num_threads(request.threads)
    try:
        return profile_module(model, request.batches)
    finally:
        torch.set_num_threads(before)


def profile_module(model: nn.Module, batches: Sequence[Batch]) -> tuple[ProfiledCall, ...]:
    """One `ProfiledCall` per batch."""
    with torch.inference_mode():
        roots = profiled_roots(model, [partial(model, **batch) for batch in batches], [ProfilerActivity.CPU])
    return tuple(call_from_root(root, root.cpu_time_total / US_PER_MS, own_ms) for root in roots)


def own_ms(event: Any) -> float:
    """Milliseconds of the CPU in an operator, without those that it called."""
    return float(event.self_cpu_time_total / US_PER_MS)


def profiled_roots(
    model: nn.Module, calls: Sequence[Callable[[], object]], activities: Sequence[ProfilerActivity]
) -> list[Any]:
    """The profiler's event of each call, everything that the call did below it, modules marked by name."""
    with named_modules(model), profile(activities=list(activities)) as profiler:
        for call in calls:
            with record_function(CALL):
                call()
    return [event for event in profiler.events() if event.name == CALL and event.device_type.name == "CPU"]


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


def call_from_root(root: Any, total_ms: float, time_ms: Callable[[Any], float]) -> ProfiledCall:
    """Charge the time of every operator below one event to the innermost module around it.

    Args:
        root: the event of a call.
        total_ms: of the call.
        time_ms: of an operator alone; those that took none are left out.
    """
    work_ms: dict[Work, float] = {}

    def visit(event: Any, module: str) -> None:
        inner = event.name.removeprefix(MODULE) if event.name.startswith(MODULE) else module
        if not event.name.startswith(MODULE) and event is not root:
            operator, milliseconds = event.name.removeprefix("aten::"), time_ms(event)
            work = Work(f"{inner}/{operator}", operator, place_from_name(inner))
            if milliseconds:
                work_ms[work] = work_ms.get(work, 0.0) + milliseconds
        for child in event.cpu_children:
            visit(child, inner)

    visit(root, "")
    return ProfiledCall(total_ms, work_ms)
