"""ONNX files in ONNX Runtime: opened with checks, run as a `Predict`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from exporter.graph import INPUT_NAMES
from exporter.metadata import GraphMetadata, metadata_from_props
from exporter.onnx_file import read_onnx
from exporter.operator_sets import check_operator_sets
from exporter.parity import is_right_padded
from pruning.batching import Batch, Predict
from pruning.errors import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

CPU_PROVIDER = "CPUExecutionProvider"
OPTIMISED_NAME, PROFILE_PREFIX = "optimised.onnx", "profile"
REQUIRED_INPUTS = frozenset({"input_ids", "attention_mask"})
SOURCE_LINE = re.compile(r"^\[ONNXRuntimeError\].*? failed:(/\S+:\d+ .*?&\) )?")
"""What ONNX Runtime's messages start with: its error code, the file, and where in its own source it gave up."""
ERRORS_ONLY = 3
"""Severity of ONNX Runtime's own log: its warnings are about optimisations, not about answers."""


def session_from_onnx(path: str | Path, *, threads: int = 1, profile_folder: Path | None = None) -> InferenceSession:
    """Open an ONNX file on the CPU.

    Args:
        path: a BERT that takes ``input_ids``, ``attention_mask`` and possibly ``token_type_ids``; it need not be ours.
        threads: CPU threads inside one operator.
        profile_folder: see `session_options`.

    Raises:
        InputError: if onnxruntime is missing, the file is missing, damaged or of another kind of model, or the
            session does not run where it was asked to.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist or is not a file; pass an ONNX file.")
    options = session_options(threads, profile_folder)
    session = open_session(path, options, [CPU_PROVIDER])
    check_provider(session.get_providers(), CPU_PROVIDER)
    return session


def predict_from_session(session: InferenceSession) -> Predict:
    """The session as a `Predict`: it is fed the inputs that it has, and gives its outputs as tensors.

    A graph that was exported for right padding alone is silently wrong for other masks: its `Predict` raises
    `InputError` for them.
    """
    right_padding = is_right_padding_only(metadata_from_session(session))
    input_names = [value.name for value in session.get_inputs()]
    output_names = [value.name for value in session.get_outputs()]

    def predict(batch: Batch) -> dict[str, Tensor]:
        if right_padding:
            check_right_padded(batch)
        values = session.run(output_names, {name: batch[name].numpy() for name in input_names})
        return {name: torch.from_numpy(value) for name, value in zip(output_names, values, strict=True)}

    return predict


def metadata_from_session(session: InferenceSession) -> GraphMetadata | None:
    """What the file says about itself; None if another program wrote it.

    Raises:
        InputError: if what is stored is damaged.
    """
    return metadata_from_props(session.get_modelmeta().custom_metadata_map)


def is_right_padding_only(metadata: GraphMetadata | None) -> bool:
    """Whether a file says of itself that it is wrong for any other mask."""
    return metadata is not None and metadata.form.right_padding


def check_right_padded(batch: Batch) -> None:
    """Do nothing if every row of a batch is padded on the right.

    Raises:
        InputError: if not.
    """
    if not is_right_padded(batch["attention_mask"]):
        raise InputError(
            "this graph was exported for right padding only, and a row of the batch has a token after padding. "
            "Pad on the right, or export without right_padding."
        )


def open_session(path: Path, options: SessionOptions, providers: Sequence[Any]) -> InferenceSession:
    """A session with these options and providers, whose file is a BERT's.

    Raises:
        InputError: if the file cannot be run, or is another kind of model's.
    """
    import onnxruntime as ort  # noqa: PLC0415  # optional
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # noqa: PLC0415

    unreadable = (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NoSuchFile,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    )
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except unreadable as error:
        check_operator_sets(read_onnx(path), path, "ONNX Runtime")
        reason = SOURCE_LINE.sub("", " ".join(str(error).split()))[:200]
        raise InputError(f"ONNX Runtime cannot run {path} ({reason}). Export or copy it again.") from error
    _check_inputs({value.name: value.type for value in session.get_inputs()}, path)
    return session


def session_options(threads: int, profile_folder: Path | None = None) -> SessionOptions:
    """Options of every session of ours: threads inside one operator, and a quiet log.

    Args:
        threads: inside one operator.
        profile_folder: if given, every call is profiled into a file there that begins with `PROFILE_PREFIX`, and the
            graph as the session runs it is written there as `OPTIMISED_NAME`.

    Raises:
        InputError: if ONNX Runtime is missing, or ``threads`` is below 1.
    """
    if threads < 1:
        raise InputError(f"threads must be at least 1; got {threads}.")
    missing = missing_onnxruntime()
    if missing is not None:
        raise InputError(missing)
    import onnxruntime as ort  # noqa: PLC0415  # optional

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ONLY
    if profile_folder is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_folder / PROFILE_PREFIX)
        options.optimized_model_filepath = str(profile_folder / OPTIMISED_NAME)
    return options


def missing_onnxruntime() -> str | None:
    """How to get ONNX Runtime, in one line; None if it is there."""
    try:
        import onnxruntime  # noqa: F401, PLC0415  # optional
    except ImportError:
        return 'onnxruntime is not installed; install it with: pip install "slimbert[cpu]"'
    return None


def check_provider(providers: Sequence[str], wanted: str) -> None:
    """Do nothing if a session runs where it was asked to: ONNX Runtime falls back without an error.

    Raises:
        InputError: naming what it runs on.
    """
    if list(providers[:1]) != [wanted]:
        raise InputError(f"ONNX Runtime gave {', '.join(providers)} instead of {wanted}; install a build that has it.")


def _check_inputs(inputs: dict[str, str], path: Path) -> None:
    expected = f"expected {', '.join(INPUT_NAMES)} as int64"
    if not REQUIRED_INPUTS <= inputs.keys() <= set(INPUT_NAMES):
        raise InputError(f"{path} is not a BERT: its inputs are {', '.join(inputs) or 'none'}; {expected}.")
    wrong = [f"{name} {kind}" for name, kind in inputs.items() if kind != "tensor(int64)"]
    if wrong:
        raise InputError(f"{path} takes {', '.join(wrong)}; {expected}.")
