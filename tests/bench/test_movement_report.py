"""The page of a movement run says what its record says."""

from __future__ import annotations

import re

import pytest

from bench.report.movement_plots import matrices_svg, schedule_svg
from bench.report.movement_report import html_from_movement
from pruning.arch import ArchSpec

HISTORY = [
    {"step": step, "density": 1 - step / 20, "nonzero": 1 - step / 15, "threshold": step / 100,
     "penalty_lambda": 10.0, "penalty": 0.5}
    for step in (0, 5, 10)
]  # fmt: skip
PICTURE = {"name": "query", "rows": 16, "columns": 8, "kept": ((1.0, 0.0), (0.5, 0.0))}


def facts(value, params):
    return {"metric": {"name": "accuracy", "value": value, "n": 100}, "params": params}


@pytest.fixture
def record():
    return {
        "spec": {
            "variant": "hybrid-filled",
            "block": [32, 32],
            "attention": {"mask_function": "sigmoid-threshold"},
            "ffn": {"mask_function": "topk"},
        },
        "aim": "50 % of the weights",
        "wanted": 0.5,
        "schedule": {"total_steps": 10, "hold_steps": 1, "final_hold_steps": 4},
        "density": 0.4871,
        "threshold": 0.1234,
        "penalty_lambda": 17.5,
        "heads": [[0, 3], []],
        "neurons": [[1, 2, 5], []],
        "inner_density": {"attention": 0.75, "ffn": 1.0},
        "layers": [{"attention": 0.75, "ffn": 1.0}, {"attention": 1.0, "ffn": 1.0}],
        "dense_arch": ArchSpec.from_lists(16, 4, [4, 4], [6, 6]).to_dict(),
        "pictures": [[PICTURE, PICTURE], []],
        "history": HISTORY,
        "filled_weights": 1234,
        "facts": {
            "dense": facts(0.9, 1000),
            "unfilled": facts(0.85, 600),
            "candidate": facts(0.87, 600),
            "summary": "a <tiny> model",
        },
    }


def text_of(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_page_names_what_is_left_and_what_it_scores(record):
    html = html_from_movement(record)
    text = text_of(html)
    for expected in ("48.7%", "2 of 4", "3 of 6", "75.0%", "threshold at the end 0.123", "weights filled 1.2 k"):
        assert expected in text, expected
    for score in ("90.0", "85.0", "87.0"):
        assert score in text
    assert "a &lt;tiny&gt; model" in html
    assert "1 2 of 4 3 of 6 50.0% 75.0% 100.0%" in text
    assert "2 0 of 4 0 of 6 0.0% - -" in text


def test_figures_say_in_words_what_they_show():
    assert "From step 0 to 10; density at the end 0.500" in schedule_svg(HISTORY, None)
    assert "Kept: query 38%, query 38%" in matrices_svg([PICTURE, PICTURE])
    assert "Nothing to prune in this layer" in matrices_svg([])


def test_nothing_filled_nothing_said(record):
    del record["facts"]["unfilled"], record["filled_weights"]
    assert "holes left" not in html_from_movement(record)
    assert "weights filled" not in html_from_movement(record)
