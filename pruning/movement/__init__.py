"""Block movement pruning: learn during fine-tuning which blocks of weights to keep.

Enters: a BERT, a variant, a schedule, and a target or a penalty. In between: linear layers whose weights are masked by
learned scores. Leaves: a compact BERT, and the history of how it got there.
Source: Lagunas et al. 2021, arXiv:2109.04838; movement pruning: Sanh et al. 2020, arXiv:2005.07683.
"""

__all__: list[str] = []
