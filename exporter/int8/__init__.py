"""fp32 ONNX files to int8: dynamic for CPUs, Q/DQ for TensorRT.

Enters: an fp32 file and real batches. Leaves: a file whose weight products run in int8, with the measured error beside
it and the choice of products it rests on. ``dynamic`` and ``qdq`` convert, ``choice`` finds the products worth it.
"""

__all__: list[str] = []
