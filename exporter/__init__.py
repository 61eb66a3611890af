"""How a BERT leaves PyTorch: as ONNX, checked, with everything needed to run it beside it.

Enters: a dense or compact BERT and its tokenizer. Leaves: an ONNX file, or a ``deploy/`` folder, that other
programs load without slimbert, and the proof that it answers like the model. Import the submodules you need:
``exporter.to_onnx`` writes, ``exporter.ort_session`` runs, ``exporter.parity`` compares, ``exporter.describe`` reads.
"""

__all__: list[str] = []
