"""How fast a model is on this device, with the doubt kept beside the number.

Enters: a baseline and candidates, as checkpoints or ONNX files. Leaves: a ``BenchResult`` that holds every raw
sample, and reports made from it. ``bench.compare`` measures, ``bench.statistics`` decides, ``bench.report``
shows; ``bench.timer`` and ``bench.paired`` time any callable and know neither BERT nor a runtime.
"""

__all__: list[str] = []
