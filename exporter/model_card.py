"""The model card of a deploy folder: what is known about the model, as ``README.md`` with the hub's YAML on top.

A pure function from facts to text. What is not known is left out: no field is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from yaml import YAMLError

from exporter.describe import describe_onnx
from exporter.templates import render
from pruning.arch import ArchSpec
from pruning.errors import InputError

CARD_FILE = "README.md"
PIPELINE_TAGS = {
    "sequence-classification": "text-classification",
    "question-answering": "question-answering",
    "token-classification": "token-classification",
    "masked-lm": "fill-mask",
    "encoder": "feature-extraction",
}
"""The hub's name of the task that a head is for."""
OPTIMUM_CLASSES = {
    "sequence-classification": "ORTModelForSequenceClassification",
    "question-answering": "ORTModelForQuestionAnswering",
    "token-classification": "ORTModelForTokenClassification",
    "masked-lm": "ORTModelForMaskedLM",
    "encoder": "ORTModelForFeatureExtraction",
}
DTYPES = {"FLOAT": "fp32", "FLOAT16": "fp16"}
"""ONNX's names of types in the words of the rest of the card."""
TAGS = ("onnx", "bert", "slimbert", "transformers.js")


@dataclass(frozen=True)
class ModelSize:
    """Architecture of a model, its parameters, and the bytes of its weights in fp32."""

    arch: ArchSpec
    params: int
    bytes: int


@dataclass(frozen=True)
class DeployedFile:
    """One ONNX file: its path inside the deploy folder, the types of its weights, its size, how it was made."""

    path: str
    precision: str
    bytes: int
    note: str | None = None


@dataclass(frozen=True)
class CardMetric:
    """A metric of the dense model and of the deployed one, on ``n`` examples of a data set.

    ``dataset`` is what the user called it: a hub name, or a file.
    """

    name: str
    baseline: float
    candidate: float
    n: int
    dataset: str


@dataclass(frozen=True)
class CardLatency:
    """Median milliseconds of dense and deployed model at one shape, on one clock of one runtime."""

    runtime: str
    batch: int
    seq: int
    clock: str
    threads: int
    baseline_dtype: str
    baseline_ms: float
    candidate_dtype: str
    candidate_ms: float

    @property
    def speedup(self) -> float:
        """Above 1 is faster than the dense model."""
        return self.baseline_ms / self.candidate_ms


@dataclass(frozen=True)
class ModelCardFacts:
    """Everything that a card may say.

    Attributes:
        name: of the model, as the title.
        head: a key of `PIPELINE_TAGS`.
        size: of the deployed model.
        files: the ONNX files.
        source: what the model was made from, in the user's words: a hub name or the name of a folder.
        base_model: ``source`` if it is a hub name, else None.
        license: as the source's own card states it, None if it does not.
        dense: the model before pruning; None if it is not known.
        metric: None if it was not measured.
        latencies: empty if not measured.
        headline: the measured speedup in a sentence, with its interval; None if not measured.
        machine: where the latencies were measured; None if they were not.

    Raises:
        InputError: if the head is unknown, or the two architectures have different numbers of layers.
    """

    name: str
    head: str
    size: ModelSize
    files: tuple[DeployedFile, ...]
    source: str
    base_model: str | None = None
    license: str | None = None
    dense: ModelSize | None = None
    metric: CardMetric | None = None
    latencies: tuple[CardLatency, ...] = ()
    headline: str | None = None
    machine: str | None = None

    def __post_init__(self) -> None:
        if self.head not in PIPELINE_TAGS:
            raise InputError(f"no model card for the head {self.head!r}; supported: {', '.join(PIPELINE_TAGS)}.")
        if self.dense and len(self.dense.arch.layers) != len(self.size.arch.layers):
            raise InputError(
                f"the dense model has {len(self.dense.arch.layers)} layers and this one "
                f"{len(self.size.arch.layers)}; pass the model that it was pruned from."
            )


def model_card_text(facts: ModelCardFacts) -> str:
    """``README.md``: YAML front matter that the hub reads, then what a person wants to know."""
    data = _card_data(facts)
    body = render(
        "model_card.md.jinja",
        {
            "facts": facts,
            "task": PIPELINE_TAGS[facts.head],
            "optimum_class": OPTIMUM_CLASSES[facts.head],
            "layers": _layer_rows(facts),
        },
    )
    return f"---\n{data.to_yaml()}\n---\n{body}"


def files_from_deploy(folder: Path, notes: Mapping[str, str | None]) -> tuple[DeployedFile, ...]:
    """The ONNX files of a deploy folder, by name.

    Args:
        folder: that holds ``onnx/``.
        notes: how a file was made, by its path inside the folder.

    Raises:
        InputError: if one of them is no ONNX file.
    """
    described = ((path, describe_onnx(path)) for path in sorted((folder / "onnx").glob("*.onnx")))
    named = ((path.relative_to(folder).as_posix(), found) for path, found in described)
    return tuple(
        DeployedFile(name, _precision_text(found.precisions), found.bytes, notes.get(name)) for name, found in named
    )


def license_from_folder(folder: Path) -> str | None:
    """The license that a folder's own model card states; None if there is no readable card or it states none."""
    card = folder / CARD_FILE
    if not card.is_file():
        return None
    try:
        stated = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data.get("license")
    except (YAMLError, ValueError, TypeError):  # some other README; what it states is not for us to guess
        return None
    return stated if isinstance(stated, str) else None


def _precision_text(precisions: Mapping[str, int]) -> str:
    """Types of the stored weights, the most frequent first."""
    names = sorted(precisions, key=lambda name: (-precisions[name], name))
    return ", ".join(DTYPES.get(name, name.lower()) for name in names)


def _card_data(facts: ModelCardFacts) -> ModelCardData:
    task = PIPELINE_TAGS[facts.head]
    return ModelCardData(
        base_model=facts.base_model,
        license=facts.license,
        library_name="sentence-transformers" if facts.head == "encoder" else "transformers",
        pipeline_tag=task,
        tags=list(TAGS),
        metrics=[facts.metric.name] if facts.metric else None,
        model_name=facts.name if facts.metric else None,
        eval_results=[_eval_result(task, facts.metric)] if facts.metric else None,
    )


def _eval_result(task: str, metric: CardMetric) -> EvalResult:
    return EvalResult(
        task_type=task,
        dataset_type=metric.dataset,
        dataset_name=metric.dataset,
        metric_type=metric.name,
        metric_value=metric.candidate,
    )


def _layer_rows(facts: ModelCardFacts) -> list[tuple[int, str, str]]:
    """Number, heads and FFN neurons of each layer, the dense model's beside them where it is known."""
    own = facts.size.arch.layers
    if facts.dense is None:
        return [(index, str(layer.heads), str(layer.ffn)) for index, layer in enumerate(own)]
    return [
        (index, f"{layer.heads} of {before.heads}", f"{layer.ffn} of {before.ffn}")
        for index, (layer, before) in enumerate(zip(own, facts.dense.arch.layers, strict=True))
    ]
