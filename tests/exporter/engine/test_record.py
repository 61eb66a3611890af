from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from exporter.engine.options import EnginePrecision, HardwareCompatibility, Library
from exporter.engine.profile_shapes import ProfileShapes
from exporter.engine.record import EngineRecord, check_gpu, check_version, read_engine, record_path
from pruning.arch import ArchSpec
from pruning.errors import InputError

RECORD = EngineRecord(
    sha256=hashlib.sha256(b"engine").hexdigest(),
    bytes=6,
    library=Library.TENSORRT_RTX,
    version="1.7.1.116",
    compute_capabilities=("SM80", "SM86"),
    gpu=None,
    hardware_compatibility=HardwareCompatibility.NONE,
    version_compatible=False,
    profiles=(ProfileShapes("a", (1, 1, 1), (1, 8, 16)), ProfileShapes("b", (1, 4, 8), (1, 8, 16))),
    requested_precision=EnginePrecision.FP16,
    proven_precision=EnginePrecision.FP16,
    attention_layers=2,
    fused_attention_layers=2,
    unfused=(),
    layers=40,
    tf32=False,
    optimization_level=None,
    build_seconds=2.5,
    onnx_sha256="0" * 64,
    arch=ArchSpec.from_lists(64, 32, [2, 0, 1], [8, 9, 0]),
    head="encoder",
)


def written(path, record=RECORD, data=b"engine"):
    path.write_bytes(data)
    record_path(path).write_text(record.to_json())
    return path


def test_round_trip(tmp_path):
    assert read_engine(written(tmp_path / "m.engine")) == (b"engine", RECORD)


def test_the_side_car_lies_beside_the_engine(tmp_path):
    assert record_path(tmp_path / "m.engine") == tmp_path / "m.engine.json"


def test_changed_engine_is_not_opened(tmp_path):
    path = written(tmp_path / "m.engine", data=b"Engine")
    with pytest.raises(InputError, match=r"m\.engine is not the engine .* An engine is code: it was not opened"):
        read_engine(path)


@pytest.mark.parametrize("name", ["m.engine", "m.engine.json"])
def test_both_files_are_needed(tmp_path, name):
    written(tmp_path / "m.engine")
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"{name} does not exist .* needs its side-car m\.engine\.json"):
        read_engine(tmp_path / "m.engine")


DAMAGE = {
    "no json": lambda text: text[:-30],
    "list": lambda text: "[]",
    "newer": lambda text: text.replace('"schema": 1', '"schema": 2'),
    "key missing": lambda text: text.replace('"library"', '"x"'),
    "unknown key": lambda text: text.replace('"head"', '"x"'),
    "value": lambda text: text.replace('"tensorrt-rtx"', '"x"'),
    "profile": lambda text: text.replace('"name": "a"', '"x": "a"'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_side_car(tmp_path, damage):
    path = written(tmp_path / "m.engine")
    record_path(path).write_text(DAMAGE[damage](RECORD.to_json()))
    with pytest.raises(InputError, match=r"m\.engine\.json is damaged: not the record of an engine"):
        read_engine(path)


def test_side_car_that_is_no_text(tmp_path):
    path = written(tmp_path / "m.engine")
    record_path(path).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is damaged"):
        read_engine(path)


def test_json_has_plain_values():
    data = json.loads(RECORD.to_json())
    assert data["proven_precision"] == "fp16"
    assert data["arch"]["layers"][1] == {"heads": 0, "ffn": 9}


def test_same_version_is_right():
    check_version(RECORD, (1, 7, 1, 116))


def test_other_version_is_named():
    with pytest.raises(InputError, match=r"needs tensorrt-rtx 1\.7\.1\.116; 1\.8\.0 is installed"):
        check_version(RECORD, (1, 8, 0))


def test_version_compatible_engines_run_with_newer_ones_of_the_same_major():
    record = replace(RECORD, library=Library.TENSORRT, version="10.16.1", version_compatible=True)
    check_version(record, (10, 17, 0))
    for version in ((10, 16, 0), (11, 0, 0)):
        with pytest.raises(InputError, match=r"needs tensorrt 10\.16\.1 or a newer 10\.x; "):
            check_version(record, version)


FULL = replace(RECORD, library=Library.TENSORRT, compute_capabilities=("SM80",), gpu="A100")
SAME = replace(FULL, hardware_compatibility=HardwareCompatibility.SAME_COMPUTE_CAPABILITY)
AMPERE = replace(FULL, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS)


@pytest.mark.parametrize(
    ("record", "gpu"),
    [
        (RECORD, ("RTX 3090", "SM86")),
        (FULL, ("A100", "SM80")),
        (SAME, ("A30", "SM80")),
        (AMPERE, ("RTX 5090", "SM120")),
    ],
)
def test_gpus_that_run_an_engine(record, gpu):
    check_gpu(record, gpu)


@pytest.mark.parametrize(
    ("record", "gpu", "message"),
    [
        (RECORD, ("H200", "SM90"), r"needs SM80 or SM86; this is H200 \(SM90\)\. Build one for this GPU"),
        (FULL, ("A30", "SM80"), r"needs A100 \(SM80\); this is A30"),
        (SAME, ("L4", "SM89"), r"needs SM80; this is L4"),
        (AMPERE, ("T4", "SM75"), "needs SM80 or newer; this is T4"),
        (RECORD, None, r"needs a GPU \(SM80 or SM86\); there is none here"),
    ],
)
def test_gpus_that_do_not(record, gpu, message):
    with pytest.raises(InputError, match=message):
        check_gpu(record, gpu)
