"""What is installed, and what is known not to work together: ``slimbert doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.runners.registry import RUNNERS

DISTRIBUTIONS = (
    "slimbert",
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "optimum",
    "optimum-onnx",
    "datasets",
)


def examine() -> dict[str, Any]:
    """Versions, runtimes that work here, GPUs, problems, and advice on what to install."""
    versions = {name: _version(name) for name in DISTRIBUTIONS}
    return {
        "versions": versions,
        "providers": _providers(versions),
        "runtimes": sorted(name for name, runner in RUNNERS.items() if runner.missing() is None),
        "missing_runtimes": {name: missing for name, runner in RUNNERS.items() if (missing := runner.missing())},
        "gpus": _gpus(),
        "problems": problems_from_versions(versions),
        "advice": advice_from_versions(versions),
    }


def problems_from_versions(versions: Mapping[str, str | None]) -> list[str]:
    """Combinations that are known to fail, each with what to do."""
    problems = []
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        problems.append(
            "onnxruntime and onnxruntime-gpu overwrite each other's files; uninstall both, then install one."
        )
    if versions["optimum-onnx"] and _major(versions["transformers"]) >= 5:
        problems.append(
            "optimum-onnx fails at import with transformers 5; use a separate environment: slimbert[interop]."
        )
    if versions["onnxruntime-gpu"] and _major(versions["tensorrt"]) >= 11:
        problems.append(
            "the TensorRT provider of onnxruntime-gpu is linked with TensorRT 10, but tensorrt "
            f"{versions['tensorrt']} is installed; use one of them."
        )
    return problems


def advice_from_versions(versions: Mapping[str, str | None]) -> list[str]:
    """Optional parts that are missing, with the command that brings them."""
    if _has_onnxruntime(versions):
        return []
    return ["ONNX Runtime, to run what was exported: pip install 'slimbert[cpu]' (or 'slimbert[gpu]' with CUDA)"]


def _has_onnxruntime(versions: Mapping[str, str | None]) -> bool:
    return bool(versions["onnxruntime"] or versions["onnxruntime-gpu"])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _major(text: str | None) -> int:
    return int(text.split(".")[0]) if text else 0


def _providers(versions: Mapping[str, str | None]) -> list[str]:
    if not _has_onnxruntime(versions):
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
