"""Templates to text. HTML is escaped by default; Markdown is escaped where a template asks for it."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.report import wording

TEMPLATES = Path(__file__).parent


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this folder; a value that it names and nobody gave is an error."""
    return _environment().get_template(template).render(values)


def markdown_cell(value: object) -> str:
    """Text that stays inside one cell of a Markdown table and is no HTML."""
    return html.escape(str(value), quote=False).replace("|", r"\|").replace("\n", " ")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": markdown_cell,
        "ms": wording.ms_text,
        "count": wording.count_text,
        "size": wording.size_text,
        "seconds": wording.seconds_text,
    }
    return environment
