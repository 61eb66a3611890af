"""Templates to text. HTML is escaped by default; Markdown is escaped where a template asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.report import wording
from exporter.templates import markdown_cell

TEMPLATES = Path(__file__).parent


def render(template: str, values: dict[str, Any]) -> str:
    """Fill a template of this folder; a value that it names and nobody gave is an error."""
    return _environment().get_template(template).render(values)


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
