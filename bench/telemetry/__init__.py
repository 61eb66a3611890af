"""What the machine did while it was measured: clocks, power, memory, and other people's work.

Enters: readings taken by a background thread. Leaves: raw samples for the result file, the blocks that a throttled or
wandering GPU spoiled, and the energy of a window. ``gpu`` is pure; ``nvml``, ``cpu`` and ``sampler`` are the edge.
"""

__all__: list[str] = []
