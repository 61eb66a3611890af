"""The command line and the pipeline: the only place that wires pruning, exporter and bench together.

Enters: what a user types. Leaves: a run folder with the smaller model, its artifacts, and a report. Every command is
also a plain function: ``tools.pipeline.run`` does what ``slimbert run`` does.
"""

__all__: list[str] = []
