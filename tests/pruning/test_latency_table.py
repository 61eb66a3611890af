import json
from dataclasses import replace

import numpy as np
import pytest

from pruning.arch import ArchSpec
from pruning.errors import InputError
from pruning.latency_table import LatencyTable, Row, ShapeCheck, TableIdentity, latency_budget, load_table

ARCH = ArchSpec.from_lists(16, 4, [4, 4, 4], [24, 24, 24])
IDENTITY = TableIdentity(
    runtime="ort-cpu", dtype="fp32", dialect="ort-cpu", batch=1, seq=128, threads=1, device="Example CPU",
    versions={"onnxruntime": "1.0"},
    head="sequence-classification", layers=3, hidden=16, head_dim=4, heads=4, ffn=24,
)  # fmt: skip
HEADS = Row(range(5), (0.0, 2.0, 3.0, 4.0, 5.0))
FFN = Row((0, 8, 24), (0.0, 4.0, 12.0))
TABLE = LatencyTable(
    IDENTITY, "wall", HEADS, FFN, Row(range(5), (0.0, 0.5, 1.0, 1.5, 2.0)), Row((0, 24), (0.0, 0.24)), 1.0, 0.02,
    (ShapeCheck("dense", 36.0, 37.0),),
)  # fmt: skip


def test_prices_are_interpolated_and_the_last_layer_has_its_own():
    prices = TABLE.prices(ARCH)
    assert prices.total(ARCH) == pytest.approx(1 + 2 * (5 + 12) + 2 + 0.24)
    small = ArchSpec.from_lists(16, 4, [1, 0, 3], [4, 16, 12])
    assert prices.total(small) == pytest.approx(1 + (2 + 2) + (0 + 8) + (1.5 + 0.12))
    same = replace(TABLE, last_heads=None, last_ffn=None).prices(ARCH)
    assert same.total(ARCH) == pytest.approx(1 + 3 * 17)


def test_a_table_survives_its_file(tmp_path):
    for table in (TABLE, replace(TABLE, last_heads=None, last_ffn=None)):
        table.save(tmp_path / "table.json")
        assert load_table(tmp_path / "table.json") == table
    assert json.loads((tmp_path / "table.json").read_text())["verdict"] == "good"


@pytest.mark.parametrize(
    ("residual", "predicted", "verdict"), [(0.1, 37, "good"), (0.11, 37, "noisy"), (0, 40, "doubtful")]
)
def test_a_table_judges_itself(residual, predicted, verdict):
    table = replace(TABLE, residual=residual, checks=(ShapeCheck("dense", predicted, 37.0),))
    assert table.verdict == verdict


def test_noise_is_refused_with_the_command_to_measure_again():
    with pytest.raises(
        InputError, match=r"too noisy: a residual of 20%.*slimbert bench table MODEL --runtime ort-cpu --dtype"
    ):
        latency_budget(ARCH, [(replace(TABLE, residual=0.2), 1.0)], 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("device", "Other CPU"),
        ("runtime", "openvino"),
        ("dialect", "standard"),
        ("versions", {"onnxruntime": "2.0"}),
        ("ffn", 32),
        ("threads", 2),
    ],
)
def test_a_table_of_something_else_is_refused(name, value):
    TABLE.require_identity(IDENTITY)
    wanted = replace(IDENTITY, **{name: value})
    with pytest.raises(InputError, match=rf"is for another {name}: .* Measure a new one: slimbert bench table MODEL"):
        TABLE.require_identity(wanted)


def test_a_table_fits_the_model():
    with pytest.raises(InputError, match="is for 3 layers; got 1"):
        TABLE.prices(ArchSpec.from_lists(16, 4, [1], [1]))
    with pytest.raises(InputError, match="ends at size 4, but the model has 5"):
        TABLE.prices(ArchSpec.from_lists(16, 4, [5, 1, 1], [1, 1, 1]))


@pytest.mark.parametrize(
    ("sizes", "ms"),
    [((), ()), ((1, 2), (0, 1)), ((0, 2), (0.1, 1)), ((0, 2), (0, -1)), ((0, 0), (0, 1)), ((0, 1), (0,)),
     ((0, 1), (0, float("nan")))],
)  # fmt: skip
def test_a_row_rises_from_nothing(sizes, ms):
    with pytest.raises(InputError, match="needs sizes that rise from 0"):
        Row(sizes, ms)


def test_a_speedup_divides_the_predicted_time():
    budget = latency_budget(ARCH, [(TABLE, 3.0)], 2)
    assert budget.spent(ARCH) == pytest.approx(1)
    assert budget.limit == pytest.approx(0.5)
    assert budget.meaning == "time / 2 on ort-cpu fp32, batch 1, sequence 128, 1 threads"


def test_scenarios_count_by_weight_and_not_by_duration():
    """Ten times slower in every size: its shares are the same, and so is the price."""
    slow = replace(TABLE, ffn=Row((0, 24), (0.0, 120.0)))
    small = ArchSpec.from_lists(16, 4, [4, 0, 3], [0, 24, 24])
    first, second = (table.prices(ARCH).total(small) / table.prices(ARCH).total(ARCH) for table in (TABLE, slow))
    budget = latency_budget(ARCH, [(TABLE, 1.0), (slow, 3.0)], 1.5)
    assert budget.spent(small) == pytest.approx(0.25 * first + 0.75 * second)
    assert np.isclose(budget.limit, 1 / 1.5)


def test_an_unreachable_speedup_names_the_reachable_and_the_floor():
    reachable = TABLE.prices(ARCH).total(ARCH) / (1 + 0.01)
    expected = rf"at most {int(reachable * 100) / 100:.2f}, .*measured time; 3% of it, embeddings, norms and the head"
    with pytest.raises(InputError, match=expected):
        latency_budget(ARCH, [(TABLE, 1.0)], 60)


@pytest.mark.parametrize("tables", [[], [(TABLE, 0.0)], [(TABLE, float("nan"))]])
def test_scenarios_need_tables_and_weights(tables):
    with pytest.raises(InputError, match="at least one table, and weights above 0"):
        latency_budget(ARCH, tables, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a latency table: .* holds list"),
        ("{}", "schema 1; got schema None"),
        ('{"schema": 1}', "'heads' is missing"),
        ('{"schema": 1, "heads": null, "ffn": null, "last_heads": null, "last_ffn": null}', "needs rows for heads"),
        ('{"schema": 1, "heads": 3, "ffn": null, "last_heads": null, "last_ffn": null}', "of the wrong kind"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, message):
    (tmp_path / "table.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_table(tmp_path / "table.json")
