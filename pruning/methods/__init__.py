"""Pruning methods, one paper or family a file.

Enters: a BERT and what the method learns from (here unlabelled text). Leaves: a compact BERT, and what is worth
knowing about how it was made.
"""

__all__: list[str] = []
