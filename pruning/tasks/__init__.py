"""What the data look like and how an answer is scored: one task per file.

Enters: a data set (hub name, local file or folder) and a model as `Predict`. Leaves: an `Evaluation` with the
primary metric, the others, and the raw outputs. Start at ``pruning.tasks.registry.task_named`` and
``pruning.tasks.source.load_splits``.
"""

__all__: list[str] = []
