"""Does a written artifact still answer like its checkpoint? On synthetic masks and on real text, in any precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from exporter.agreement import LEAST_AGREEMENT, mean_agreement
from exporter.engine.load import load_engine
from exporter.int8.draft import PRECISION_KEY
from exporter.metadata import GraphForm
from exporter.ort_session import metadata_from_session, predict_from_session, session_from_onnx
from exporter.parity import TOLERANCES, Parity
from exporter.text_cases import text_batches, text_cases
from exporter.to_onnx import finite_masking, parity_of_form, reference_of_form
from pruning.batching import Encodings, Predict
from pruning.errors import InputError


@dataclass(frozen=True)
class ArtifactParity:
    """Every case of one artifact, and how often it decides like the checkpoint on real text (mean cosine for vectors).

    ``agreement`` is None if there was no text.
    """

    precision: str
    cases: tuple[Parity, ...]
    agreement: float | None
    least_agreement: float

    @property
    def passed(self) -> bool:
        """Whether every case is within its tolerance, and the decisions agree often enough."""
        agreed = self.agreement is None or self.agreement >= self.least_agreement
        return agreed and all(case.passed for case in self.cases)


def parity_with_artifact(model: PreTrainedModel, path: Path, texts: Encodings | None) -> ArtifactParity:
    """Compare a checkpoint with an ONNX file or a TensorRT engine of it.

    Args:
        model: the reference, fp32.
        path: ``*.onnx``, run on the CPU, or ``*.engine``, run on the GPU.
        texts: real text; without it only the synthetic cases are run.

    Raises:
        InputError: if the artifact cannot be run here; what it needs is named.
    """
    candidate, form, precision = _engine(path) if path.suffix == ".engine" else _onnx(path)
    tolerance, batches = TOLERANCES[precision], text_cases(texts) if texts else {}
    cases = parity_of_form(model, candidate, form, artifact=path.name, tolerance=tolerance, texts=batches)
    agreement = None
    if texts:
        with finite_masking(model):
            agreement = mean_agreement(reference_of_form(model, form), candidate, text_batches(texts).values())
    return ArtifactParity(precision, cases, agreement, LEAST_AGREEMENT[precision])


def _onnx(path: Path) -> tuple[Predict, GraphForm, str]:
    session = session_from_onnx(path)
    metadata = metadata_from_session(session)
    if metadata is None:
        raise InputError(f"{path} was not written by slimbert, so it does not say what it should answer like.")
    precision = session.get_modelmeta().custom_metadata_map.get(PRECISION_KEY, metadata.form.dtype)
    return predict_from_session(session), metadata.form, precision


def _engine(path: Path) -> tuple[Predict, GraphForm, str]:
    engine = load_engine(path)
    return engine.predict(), GraphForm(), engine.record.proven_precision.value
