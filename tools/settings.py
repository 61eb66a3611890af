"""What a run was asked for, in one frozen object that is saved beside the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PretrainedConfig

from pruning.arch import ArchSpec
from pruning.budget import Budget, bytes_budget, density_budget, flops_budget, params_budget
from pruning.errors import InputError
from pruning.methods.names import Method
from pruning.tasks.columns import ColumnNames
from pruning.tasks.registry import task_named
from pruning.tasks.source import DataSource
from pruning.tasks.task import USUAL_LENGTH, length_from_request


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


SomeSettings = TypeVar("SomeSettings", bound=Settings)


class DataSettings(Settings):
    """Where the data come from and how they are read."""

    data: str
    eval_data: str | None = None
    text_column: str | None = None
    pair_column: str | None = None
    label_column: str | None = None
    data_config: str | None = None

    @property
    def source(self) -> DataSource:
        """As the readers want it."""
        columns = ColumnNames(self.text_column, self.pair_column, self.label_column)
        return DataSource(self.data, evaluation=self.eval_data, columns=columns, hub_config=self.data_config)


class TargetSettings(Settings):
    """How small: exactly one of the six. ``max_drop`` is in points of the task's metric, on held-out rows."""

    speedup: float | None = None
    density: float | None = None
    params: int | None = None
    bytes: int | None = None
    shape: str | None = None
    max_drop: float | None = Field(default=None, ge=0)

    def chosen(self) -> str:
        """Name of the one that is set.

        Raises:
            InputError: if none or several are set.
        """
        chosen = [name for name, value in self.model_dump().items() if value is not None]
        if len(chosen) != 1:
            found = " and ".join(f"--{name.replace('_', '-')}" for name in chosen) or "none"
            raise InputError(
                f"pass exactly one of --speedup, --density, --params, --bytes, --shape and --max-drop; got {found}."
            )
        return chosen[0]

    def target(self, arch: ArchSpec, params: int, sequence: int, *, first_token: bool = False) -> Budget | ArchSpec:
        """The budget, or the shape itself.

        Args:
            arch: of the dense model.
            params: of the dense model, embeddings included.
            sequence: tokens at which FLOPs are counted.
            first_token: count only what a first-token classifier needs of its last layer.

        Raises:
            InputError: if none or several targets are set, or the one that is cannot be met.
        """
        assert self.chosen() != "max_drop", "the speedup of a largest loss is searched for"
        if self.shape is not None:
            return shape_from_file(Path(self.shape), arch)
        if self.density is not None:
            return density_budget(arch, self.density)
        if self.params is not None:
            return params_budget(arch, self.params, params)
        if self.bytes is not None:
            return bytes_budget(arch, self.bytes, params)
        assert self.speedup is not None
        return flops_budget(arch, self.speedup, sequence, first_token=first_token)


class PriceSettings(Settings):
    """What a speedup is counted in: FLOPs, or time as latency tables have it, each with a weight (default: equal)."""

    by: Literal["flops", "measured"] | None = None
    tables: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether prices are measured: as asked, and otherwise if there is a table."""
        return bool(self.tables) if self.by is None else self.by == "measured"

    def check(self, target: TargetSettings) -> None:
        """Do nothing if these prices go with each other and with ``target``.

        Raises:
            InputError: if not.
        """
        if self.measured and target.chosen() not in ("speedup", "max_drop"):
            raise InputError(f"measured prices are for --speedup; got --{target.chosen()}. Leave one of them out.")
        if self.tables and not self.measured:
            raise InputError("--price flops reads no --latency-table. Leave one of them out.")
        if self.weights and len(self.weights) != len(self.tables):
            raise InputError(
                f"--scenario-weights needs one weight per --latency-table; got {len(self.weights)} weights for "
                f"{len(self.tables)} tables."
            )


class PruneSettings(Settings):
    """How to choose and refit. Without a method or a grid of FFN widths, those that suit the prices and the runtime."""

    method: Method | None = None
    target: TargetSettings
    price: PriceSettings = PriceSettings()
    reconstruct: bool = True
    calibration: int = Field(default=1024, ge=1)
    ffn_multiple: int | None = Field(default=None, ge=1)


class TextSettings(Settings):
    """Lengths and the rest of what `slimbert prune` takes."""

    seq: int = Field(default=128, ge=1)
    max_length: int | None = Field(default=None, ge=4)
    seed: int = Field(default=0, ge=0)
    with_code: bool = False

    def longest(self, config: PretrainedConfig, task: str | None) -> int:
        """Tokens of the longest text that a model with this ``config`` is to read.

        Raises:
            InputError: if more is asked for than it has positions, or the task is unknown.
        """
        return length_from_request(config, self.max_length, length_from_options(None, task))


class BenchGrid(Settings):
    """What is measured."""

    runtime: tuple[str, ...] = ("ort-cpu",)
    batch: tuple[int, ...] = (1,)
    seq: tuple[int, ...] = (128,)
    threads: int = Field(default=1, ge=1)
    blocks: int = Field(default=30, ge=2)
    warmup_seconds: float = Field(default=1.0, gt=0)
    clock: str = "wall"


class ExportSettings(Settings):
    """What is deployed. ``deploy/`` with fp32 is always written; ``dtype`` None means every precision that passes."""

    export: tuple[Literal["onnx", "tensorrt", "tensorrt-rtx"], ...] = ("onnx",)
    dtype: tuple[Literal["fp32", "fp16", "int8"], ...] | None = None
    dialect: Literal["ort-cpu", "standard"] = "ort-cpu"
    first_token: bool = True
    quantize_embeddings: bool = False
    target: tuple[str, ...] = ()

    @property
    def onnx_dtypes(self) -> tuple[str, ...]:
        """Precisions to try as ONNX files."""
        return ("fp32", "fp16", "int8") if self.dtype is None else self.dtype

    @property
    def first_dtype(self) -> str:
        """The precision that is named first; fp32 if none is."""
        return self.dtype[0] if self.dtype else "fp32"

    @property
    def engine_dtypes(self) -> tuple[str, ...]:
        """Precisions to build engines of: unless told otherwise, the one that GPUs are best at."""
        return ("fp16",) if self.dtype is None else self.dtype

    @property
    def libraries(self) -> tuple[str, ...]:
        """TensorRT libraries to build engines with, each once."""
        return tuple(dict.fromkeys(name for name in self.export if name != "onnx"))


class RunSettings(Settings):
    """Everything that decides what ``slimbert run`` leaves behind."""

    model: str
    task: str
    data: DataSettings
    prune: PruneSettings
    export: ExportSettings = ExportSettings()
    bench: BenchGrid = BenchGrid()
    max_length: int = Field(default=128, ge=4)
    seed: int = Field(default=0, ge=0)
    with_code: bool = False

    @property
    def headline_dtype(self) -> str:
        """Precision of the speedup that comes first: with measured prices the first that is named, else fp32."""
        return self.export.first_dtype if self.prune.price.measured else "fp32"


def shape_from_file(path: Path, dense: ArchSpec) -> ArchSpec:
    """The architecture in a JSON file, checked against the dense model's hidden size and head size.

    Raises:
        InputError: if the file cannot be read, or does not describe a smaller version of this model.
    """
    try:
        arch = ArchSpec.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--shape {path} cannot be read ({error}). Pass a JSON file; see slimbert inspect --json."
        ) from error
    if (arch.hidden, arch.head_dim) != (dense.hidden, dense.head_dim):
        raise InputError(
            f"--shape {path} has hidden {arch.hidden} and head_dim {arch.head_dim}; "
            f"the model has {dense.hidden} and {dense.head_dim}, which pruning does not change."
        )
    return arch


def length_from_options(max_length: int | None, task: str | None) -> int:
    """``--max-length``, or what is usual for the task.

    Raises:
        InputError: if the task is unknown.
    """
    if max_length is not None:
        return max_length
    return USUAL_LENGTH if task is None else task_named(task).max_length


def checked_settings(model: type[SomeSettings], /, **values: Any) -> SomeSettings:
    """Build settings from options.

    Raises:
        InputError: naming the first value that is wrong.
    """
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = "-".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {first['msg'].lower()}; got {first['input']!r}.") from error


def settings_from_options(model: type[SomeSettings], options: Mapping[str, Any], /, **parsed: Any) -> SomeSettings:
    """Build settings from the options of a command that bear the names of the fields.

    Args:
        model: the settings to build.
        options: all that the command was given, by name; those that are no field are for something else.
        parsed: fields whose option is written in another form, or has another name.

    Raises:
        InputError: naming the first value that is wrong.
    """
    return checked_settings(model, **{name: options[name] for name in model.model_fields if name in options} | parsed)
