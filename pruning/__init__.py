"""What to keep of a BERT, and the smaller dense model that keeps it.

Enters: a fine-tuned BERT and unlabelled text. Leaves: a ``CompactBert`` whose layers differ in heads and
FFN neurons. Import the submodules you need: ``pruning.arch`` is standard library only, and importing
``pruning.auto`` teaches the Auto classes of transformers to load compact checkpoints.
"""

__all__: list[str] = []
