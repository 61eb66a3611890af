from __future__ import annotations

import math

import pytest
import torch

from exporter.int8.check import Int8Error, Int8Tolerance, check_int8, require_int8
from pruning.errors import InputError
from tests.tiny import tiny_batch

BATCH = tiny_batch(3, 4, padding="none")
BATCH["attention_mask"][1] = torch.tensor([1, 1, 0, 0])
TOLERANCE = Int8Tolerance()


def compare(name, expected, found, batches=(BATCH,), tolerance=TOLERANCE):
    (result,) = check_int8(lambda batch: {name: expected}, lambda batch: {name: found}, batches, tolerance)
    return result


def test_equal_outputs_pass():
    result = compare("logits", torch.ones(3, 2), torch.ones(3, 2))
    assert (result.relative_error, result.agreement, result.passed) == (0.0, 1.0, True)


def test_relative_error_is_that_of_all_batches_together():
    expected, found = torch.tensor([[3.0, 4.0]] * 3), torch.tensor([[3.0, 4.5]] * 3)
    assert compare("logits", expected, found, (BATCH, BATCH)).relative_error == pytest.approx(0.1)


def test_changed_decisions_are_counted():
    expected, found = torch.tensor([[0.0, 1.0]] * 3), torch.tensor([[0.0, 1.0], [1.0, 0.9], [0.0, 1.0]])
    result = compare("logits", expected, found, tolerance=Int8Tolerance(relative_error=10))
    assert result.agreement == pytest.approx(2 / 3)
    assert not result.passed


def test_decisions_at_padding_do_not_count():
    expected = torch.tensor([0.0, 1.0]).expand(3, 4, 2).clone()
    found = expected.clone()
    found[1, 3] = torch.tensor([9.0, 0.0])
    assert compare("logits", expected, found).agreement == 1.0
    found[1, 1] = torch.tensor([9.0, 0.0])
    assert compare("logits", expected, found).agreement == pytest.approx(9 / 10)


def test_answer_position_is_sought_among_the_kept_tokens_of_rows_that_have_some():
    batch = BATCH | {"attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])}
    expected = torch.tensor([[0.0, 1.0, 2.0, 3.0]] * 3)
    found = torch.tensor([[0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 9.0, 9.0], [3.0, 0.0, 0.0, 0.0]])
    assert compare("start_logits", expected, found, (batch,)).agreement == 1.0
    found[1, 0] = 5.0
    assert compare("start_logits", expected, found, (batch,)).agreement == 0.5


@pytest.mark.parametrize("name", ["last_hidden_state", "sentence_embedding"])
def test_vectors_are_compared_by_angle(name):
    shape = (3, 4, 2) if name == "last_hidden_state" else (3, 2)
    expected = torch.tensor([1.0, 0.0]).expand(shape).clone()
    found = torch.tensor([2.0, 2.0]).expand(shape).clone()
    result = compare(name, expected, found, tolerance=Int8Tolerance(relative_error=10))
    assert result.agreement == pytest.approx(math.sqrt(0.5))
    assert not result.passed
    assert "cosine 0.7071 (at least 0.98)" in str(result)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_candidate_that_is_not_finite_fails(bad):
    assert not compare("logits", torch.ones(3, 2), torch.full((3, 2), bad)).passed


def test_reference_of_zeros():
    assert compare("logits", torch.zeros(3, 2), torch.zeros(3, 2)).relative_error == 0.0
    assert not compare("logits", torch.zeros(3, 2), torch.ones(3, 2)).passed


def test_batch_without_tokens_decides_nothing():
    batch = BATCH | {"attention_mask": torch.zeros(3, 4, dtype=torch.int64)}
    assert compare("last_hidden_state", torch.ones(3, 4, 2), torch.zeros(3, 4, 2), (batch,)).passed


def test_failed_outputs_are_named_with_their_numbers():
    good, bad = compare("logits", torch.ones(3, 2), torch.ones(3, 2)), compare("x", torch.ones(3, 2), -torch.ones(3, 2))
    require_int8([good])
    message = r"\(x: relative error 2\.000 \(at most 0\.2\), argmax agreement 1\.0000 \(at least 0\.97\)\)"
    with pytest.raises(Int8Error, match=message) as error:
        require_int8([good, bad])
    assert error.value.failed == (bad,)


def test_missing_output_is_named():
    with pytest.raises(InputError, match=r"has no output logits \(3, 2\); it has other \(1,\)"):
        check_int8(lambda b: {"logits": torch.ones(3, 2)}, lambda b: {"other": torch.ones(1)}, [BATCH], TOLERANCE)


def test_other_shape_is_named():
    with pytest.raises(InputError, match=r"has no output logits \(3, 2\); it has logits \(3, 3\)"):
        compare("logits", torch.ones(3, 2), torch.ones(3, 3))


def test_reference_that_is_not_finite_is_the_models_fault():
    with pytest.raises(InputError, match="the reference gives logits that is not finite"):
        compare("logits", torch.full((3, 2), math.nan), torch.ones(3, 2))


def test_no_batch():
    with pytest.raises(InputError, match="pass at least one batch"):
        compare("logits", torch.ones(3, 2), torch.ones(3, 2), ())


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_relative_error_must_be_positive(value):
    with pytest.raises(InputError, match=r"the relative error allowed must be above 0; got"):
        Int8Tolerance(relative_error=value)


@pytest.mark.parametrize(("field", "name"), [("argmax_agreement", "argmax agreement"), ("cosine", "cosine")])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_shares_must_be_between_0_and_1(field, name, value):
    with pytest.raises(InputError, match=rf"the least {name} must be between 0 and 1; got {value}"):
        Int8Tolerance(**{field: value})


def test_a_choice_may_spend_half_of_what_the_check_allows():
    tolerance = Int8Tolerance(relative_error=0.3, argmax_agreement=0.9, cosine=0.8)
    assert tolerance.with_margin() == Int8Tolerance(relative_error=0.3, argmax_agreement=0.95, cosine=0.9)
