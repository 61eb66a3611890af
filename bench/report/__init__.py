"""What people see of a benchmark and of a whole run.

Enters: a ``BenchResult``, or the facts of a run. Leaves: rich tables, Markdown, and self-contained HTML that needs no
network and runs no script. ``bench.report.schema`` builds and checks ``report.json``.
"""

__all__: list[str] = []
