from __future__ import annotations

import pytest

from exporter.options import Dialect, Dtype, Fp32Part, GraphOptions, Pooling
from pruning.errors import InputError


def test_plain_text_becomes_enums():
    options = GraphOptions(dialect="ort-cuda", dtype="fp16", pooling="mean", fp32_parts=("layer_norm",))
    assert options.dialect is Dialect.ORT_CUDA
    assert options.dtype is Dtype.FP16
    assert options.pooling is Pooling.MEAN
    assert options.fp32_parts == (Fp32Part.LAYER_NORM,)


def test_the_order_of_fp32_parts_does_not_matter():
    assert GraphOptions(dtype="fp16", fp32_parts=("layer_norm", "softmax", "softmax")) == GraphOptions(
        dtype="fp16", fp32_parts=("softmax", "layer_norm")
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dialect": "cuda"}, "dialect must be one of standard, ort-cpu, ort-cuda; got 'cuda'"),
        ({"dtype": "int4"}, "dtype must be one of fp32, fp16; got 'int4'"),
        ({"pooling": "max"}, "pooling must be one of mean; got 'max'"),
        ({"dtype": "fp16", "fp32_parts": ("gelu",)}, "fp32_parts must be one of softmax, layer_norm; got 'gelu'"),
        ({"opset": 19}, "the opset must be one of 20, 21, 22, 23; got 19"),
        ({"right_padding": True}, "right_padding needs the dialect ort-cpu or ort-cuda; got standard"),
        ({"fp32_parts": ("softmax",)}, "fp32_parts is for fp16 graphs only; got fp32"),
        (
            {"dialect": "ort-cpu", "dtype": "fp16", "fp32_parts": ("softmax",)},
            "softmax is inside ort-cpu's fused attention",
        ),
    ],
)
def test_what_cannot_be_is_named(values, message):
    with pytest.raises(InputError, match=message):
        GraphOptions(**values)


def test_precision_choices_grow_and_leave_out_what_is_fused():
    softmax, norm = Fp32Part.SOFTMAX, Fp32Part.LAYER_NORM
    assert GraphOptions().fp32_choices == ((),)
    assert GraphOptions(dtype="fp16").fp32_choices == ((), (softmax,), (norm,), (softmax, norm))
    assert GraphOptions(dtype="fp16", dialect="ort-cpu").fp32_choices == ((), (norm,))
    assert GraphOptions(dtype="fp16", fp32_parts=("softmax",)).fp32_choices == ((softmax,),)
