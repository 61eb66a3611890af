from __future__ import annotations

import pytest

from exporter.engine.profile_shapes import ProfileShapes, check_profiles, default_profiles, profile_index
from pruning.arch import ArchSpec
from pruning.errors import InputError


def arch(*heads):
    return ArchSpec.from_lists(64, 32, heads, [8] * len(heads))


def profile(name="p", batch=(1, 8, 32), sequence=(1, 128, 128)):
    return ProfileShapes(name, batch, sequence)


def test_default_is_batch_1_and_1_to_32_to_128_and_to_the_limit():
    found = {p.name: (p.batch, p.sequence) for p in default_profiles(arch(2, 0, 3), 512)}
    assert found == {
        "b1_s128": ((1, 1, 1), (1, 128, 128)),
        "b1_s512": ((1, 1, 1), (1, 256, 512)),
        "b32_s128": ((1, 8, 32), (1, 128, 128)),
        "b32_s512": ((1, 8, 32), (1, 256, 512)),
    }


def test_one_head_layers_get_profiles_that_reach_batch_2():
    assert [p.batch for p in default_profiles(arch(2, 1), 128)] == [(1, 1, 2), (1, 8, 32)]


@pytest.mark.parametrize("limit", [1, 40, 128])
def test_short_models_have_one_length(limit):
    assert [p.sequence for p in default_profiles(arch(2), limit)] == [(1, limit, limit)] * 2


def test_default_profiles_need_a_limit():
    with pytest.raises(InputError, match="longest sequence must be at least 1; got 0"):
        default_profiles(arch(2), 0)


def test_corners_are_the_shapes_that_tensorrt_takes():
    assert profile(sequence=(2, 64, 128)).corners == ((1, 2), (8, 64), (32, 128))


def test_round_trip():
    assert ProfileShapes.from_dict(profile().to_dict()) == profile()


@pytest.mark.parametrize("data", [{}, {"name": "p", "batch": 1, "sequence": [1, 2, 3]}])
def test_damaged_profile(data):
    with pytest.raises(InputError, match="not an optimization profile"):
        ProfileShapes.from_dict(data)


def test_profile_needs_a_name():
    with pytest.raises(InputError, match="needs a name"):
        profile(name="")


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2), (1, 2.5, 3), (1, True, 3)])
def test_ranges_are_three_positive_integers(values):
    with pytest.raises(InputError, match="batch of profile p must be three integers from 1; got"):
        profile(batch=values)


def test_ranges_increase():
    with pytest.raises(InputError, match=r"sequence of profile p must be .* increasing; got \(1, 200, 128\)"):
        profile(sequence=(1, 200, 128))


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ((), "at least one optimization profile; got none"),
        ((profile("a"), profile("a")), "needs its own name; got a, a"),
        ((profile(sequence=(1, 2, 129)),), r"profile p \(.*sequence 1 to 129\) goes beyond the model's 128 positions"),
    ],
)
def test_profiles_that_an_engine_cannot_have(profiles, message):
    with pytest.raises(InputError, match=message):
        check_profiles(profiles, 128)


def test_an_unknown_limit_is_not_checked():
    check_profiles([profile(sequence=(1, 2, 10_000))], None)


@pytest.mark.parametrize(
    ("batch", "sequence", "index"), [(1, 5, 0), (1, 129, 1), (2, 128, 2), (32, 512, 3), (1, 128, 0)]
)
def test_the_narrowest_profile_is_chosen(batch, sequence, index):
    assert profile_index(default_profiles(arch(2), 512), batch, sequence) == index


@pytest.mark.parametrize(("batch", "sequence"), [(33, 1), (1, 129), (0, 1)])
def test_shape_outside_every_profile(batch, sequence):
    with pytest.raises(InputError, match=rf"batch {batch}, sequence {sequence} is outside .* p \(batch 1 to 32, seq"):
        profile_index([profile()], batch, sequence)
