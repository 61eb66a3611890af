"""Where the time of one call goes: by layer, by part of BERT, by operator.

Enters: a prepared model and batches. Leaves: an `OperatorTimes` that sums to the call. One file per runtime turns what
its profiler reports into it; ``breakdown`` and ``places`` are pure.
"""

__all__: list[str] = []
