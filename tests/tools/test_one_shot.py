"""The grid of FFN widths suits what the model is to run in."""

import pytest

from tools.one_shot import width_step


@pytest.mark.parametrize(
    ("targets", "step"),
    [
        ([], 32),
        ([("ort-cpu", "fp32")], 32),
        ([("openvino", "int8")], 32),
        ([("ort-cuda", "fp32")], 64),
        ([("tensorrt", "fp16")], 64),
        ([("tensorrt-rtx", "int8")], 128),
        ([("ort-cpu", "int8"), ("torch-cuda", "fp16")], 64),
    ],
)
def test_widths_suit_the_matrix_units(targets, step):
    assert width_step(None, targets) == step


def test_a_grid_that_was_asked_for_is_taken():
    assert width_step(8, [("tensorrt", "int8")]) == 8
