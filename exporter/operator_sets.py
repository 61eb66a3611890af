"""Which operator sets an ONNX file uses, and whether any runtime here knows them."""

from __future__ import annotations

from pathlib import Path

import onnx

from exporter.fused import CONTRIB
from exporter.options import OPSETS
from pruning.errors import InputError

STANDARD = "ai.onnx"
NEWEST = {STANDARD: onnx.defs.onnx_opset_version(), CONTRIB: 1}
"""The newest version of every domain that a BERT may need."""


def operator_sets(model: onnx.ModelProto) -> dict[str, int]:
    """Version of every domain that a node is of; 0 if the file does not say. Functions of the file are looked into."""
    own = {(function.domain, function.name) for function in model.functions}
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    used = {node.domain or STANDARD for node in nodes if (node.domain, node.op_type) not in own}
    stated = {entry.domain or STANDARD: entry.version for entry in model.opset_import}
    return {domain: stated.get(domain, 0) for domain in sorted(used)}


def check_operator_sets(model: onnx.ModelProto, path: Path, reader: str) -> None:
    """Do nothing if a runtime may know all operators of a file.

    Args:
        model: what the file holds.
        path: the file, for the message.
        reader: the runtime, for the message.

    Raises:
        InputError: naming the domains and versions that do not exist, and those that do.
    """
    unknown = {
        domain: version for domain, version in operator_sets(model).items() if not 1 <= version <= NEWEST.get(domain, 0)
    }
    if unknown:
        found = ", ".join(f"{domain} {version or 'of no stated version'}" for domain, version in unknown.items())
        known = " and ".join(
            f"{domain} 1 to {version}" if version > 1 else f"{domain} 1" for domain, version in NEWEST.items()
        )
        raise InputError(
            f"{path} uses the operator set {found}, which {reader} does not know; it knows {known}. "
            f"Export the model again: slimbert writes {STANDARD} {OPSETS[0]} to {OPSETS[-1]}."
        )
