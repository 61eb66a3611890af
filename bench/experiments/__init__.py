"""Measurements beside the paired latency: throughput, load and cold start.

Enters: loaded models as functions of a batch, or their files. Leaves: frozen results that keep every sample, each with
rows for a table. The cores run on any clock; ``bench.experiments.run`` wires them to runners.
"""

__all__: list[str] = []
