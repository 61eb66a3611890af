"""Standard ONNX files to TensorRT and TensorRT-RTX engines, and back from disk to a GPU.

Enters: an ONNX file and the shapes to be ready for. Leaves: an engine with a side-car that says what it needs and
proves its precision from its layers. ``export`` builds, ``load`` runs; the libraries are imported inside functions.
"""

__all__: list[str] = []
