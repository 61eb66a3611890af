"""Text files that are made from templates: the model card and Triton's configuration."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this folder; a value that it names and nobody gave is an error."""
    environment = Environment(  # Markdown and protobuf text, no HTML
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": markdown_cell, "megabytes": _megabytes}
    return environment.get_template(template).render(values)


def markdown_cell(value: object) -> str:
    """Text that stays inside one cell of a Markdown table and is no HTML."""
    return html.escape(str(value), quote=False).replace("|", r"\|").replace("\n", " ")


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
