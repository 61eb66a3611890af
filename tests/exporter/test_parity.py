from __future__ import annotations

import math

import pytest
import torch

from exporter.parity import INT8_TOLERANCE, ParityError, check_parity, is_right_padded, parity_batches, require_parity
from pruning.batching import predict_from_model
from pruning.errors import InputError
from tests.exporter.compact import tiny_compact
from tests.tiny import VOCAB, tiny_batch

BATCH = tiny_batch(3, 4, padding="right")
BATCH["attention_mask"][1] = torch.tensor([1, 1, 0, 0])


def constant(**outputs):
    return lambda batch: outputs


def compare(expected, found, batch=BATCH, tolerance=1e-4):
    (result,) = check_parity(expected, found, {"case": batch}, artifact="thing", tolerance=tolerance)
    return result


def test_equal_outputs_pass():
    result = compare(constant(logits=torch.ones(3, 2)), constant(logits=torch.ones(3, 2)))
    assert (result.artifact, result.case, result.max_abs_diff, result.passed) == ("thing", "case", 0.0, True)


@pytest.mark.parametrize(
    ("name", "shape"), [("start_logits", (3, 4)), ("logits", (3, 4, 2)), ("last_hidden_state", (3, 4, 5))]
)
def test_padded_positions_are_not_compared_but_kept_ones_are(name, shape):
    expected, found = torch.zeros(shape), torch.zeros(shape)
    found[1, 3] = 9.0
    assert compare(constant(**{name: expected}), constant(**{name: found})).passed
    found[1, 1] = 0.5
    result = compare(constant(**{name: expected}), constant(**{name: found}))
    assert (result.max_abs_diff, result.passed) == (0.5, False)


def test_class_logits_are_compared_even_where_a_row_has_no_token():
    batch = BATCH | {"attention_mask": torch.zeros(3, 4, dtype=torch.int64)}
    found = torch.zeros(3, 4)  # as many classes as positions
    found[2, 3] = 1.0
    assert compare(constant(logits=torch.zeros(3, 4)), constant(logits=found), batch).max_abs_diff == 1.0


def test_int8_tolerance_still_finds_a_mask_that_is_ignored():
    model = tiny_compact("sequence-classification", heads=[2, 1], ffn=[24, 8])
    reference = predict_from_model(model)
    batches = parity_batches(len(VOCAB), 24, seed=0)

    def unmasked(batch):
        return reference(batch | {"attention_mask": torch.ones_like(batch["attention_mask"])})

    results = check_parity(reference, unmasked, batches, artifact="thing", tolerance=INT8_TOLERANCE)
    assert not all(result.passed for result in results)


def test_nothing_to_compare_passes():
    batch = BATCH | {"attention_mask": torch.zeros(3, 4, dtype=torch.int64)}
    states = constant(last_hidden_state=torch.ones(3, 4, 5))
    assert compare(states, constant(last_hidden_state=torch.zeros(3, 4, 5)), batch).passed


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_output_that_is_not_finite_fails_even_at_padding(bad):
    found = torch.zeros(3, 4, 2)
    found[1, 3, 0] = bad
    result = compare(constant(logits=torch.zeros(3, 4, 2)), constant(logits=found))
    assert (result.max_abs_diff, result.passed) == (math.inf, False)


def test_other_shape_fails():
    result = compare(constant(logits=torch.zeros(3, 2)), constant(logits=torch.zeros(3, 3)))
    assert (result.max_abs_diff, result.passed) == (math.inf, False)


@pytest.mark.parametrize(("magnitude", "allowed"), [(0.1, 1e-4), (1.0, 1e-4), (-50.0, 5e-3)])
def test_tolerance_grows_with_large_outputs_only(magnitude, allowed):
    outputs = constant(logits=torch.tensor([[0.0], [magnitude], [0.0]]))
    assert compare(outputs, outputs).tolerance == pytest.approx(allowed)


def test_tolerance_ignores_outputs_at_padding():
    states = torch.zeros(3, 4, 2)
    states[1, 3] = 1e6
    assert compare(constant(logits=states), constant(logits=states)).tolerance == 1e-4


def test_reference_that_is_not_finite_is_the_models_fault():
    broken = constant(logits=torch.full((3, 2), math.nan))
    with pytest.raises(InputError, match=r"the reference gives logits that is not finite \(case\)"):
        compare(broken, constant(logits=torch.zeros(3, 2)))


def test_missing_output_is_named():
    with pytest.raises(InputError, match="thing has no output logits; it has last_hidden_state"):
        compare(constant(logits=torch.zeros(3, 2)), constant(last_hidden_state=torch.zeros(3, 4, 2)))


def test_require_parity_raises_with_the_numbers_of_the_failed_cases():
    zeros = constant(logits=torch.zeros(3, 2))
    good, bad = compare(zeros, zeros), compare(zeros, constant(logits=torch.ones(3, 2)))
    require_parity([good])
    with pytest.raises(ParityError, match=r"thing does not answer like the model \(case: 1.00e\+00 > 1.0e-04\)") as e:
        require_parity([good, bad])
    assert e.value.failed == (bad,)


def test_batches_cover_the_masks_and_shapes_that_find_bugs():
    batches = parity_batches(29, 40, seed=0)
    masks = {case: batch["attention_mask"].bool() for case, batch in batches.items()}
    shapes = {tuple(mask.shape) for mask in masks.values()}
    assert {rows for rows, _ in shapes} >= {1, 2, 3}
    assert {length for _, length in shapes} >= {1, 39, 40}
    assert masks["no padding"].all()
    assert masks["row without a token"].any(1).tolist() == [True, True, False]
    assert not masks["holes"][0, 0]
    assert masks["holes"].any(1).all()
    assert masks["just under the limit"].sum().item() == 29  # one row, because long ones cost most of an export's time
    assert is_right_padded(batches["just under the limit"]["attention_mask"])
    for side, column in (("right padding", 0), ("left padding", -1)):
        assert masks[side][:, column].all()
        assert not masks[side].all()


def test_batches_stay_inside_the_model():
    for limit in (1, 2, 5):
        for batch in parity_batches(3, limit, seed=0, token_types=1).values():
            assert batch["input_ids"].shape[1] <= limit
            assert int(batch["input_ids"].max()) < 3
            assert int(batch["token_type_ids"].max()) == 0
            assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_batches_depend_on_the_seed_alone():
    first, again, other = (parity_batches(29, 40, seed=seed)["holes"]["input_ids"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
