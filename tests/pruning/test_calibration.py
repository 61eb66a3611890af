import itertools
import random

import pytest
import torch

from pruning.calibration import calibration_from_texts
from pruning.errors import InputError
from tests.tiny import WORDS, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def texts(count, seed=0):
    """Different texts of 3 to 9 words, each word one token."""
    generator, found = random.Random(seed), {}
    while len(found) < count:
        found[" ".join(generator.choices(WORDS.split(), k=generator.randint(3, 9)))] = None
    return list(found)


def words(count):
    """Different texts of that many words, each word one token."""
    return (" ".join(x) for x in itertools.permutations(WORDS.split(), count))


def rows(batches):
    """Every text of a set as its tokens without padding, in a canonical order."""
    return sorted(
        tuple(ids[mask.bool()].tolist())
        for batch in batches
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    )


def sets(calibration):
    return [rows(calibration.fit), rows(calibration.select), rows(calibration.report)]


def test_the_three_sets_are_disjoint_and_taken_from_the_texts():
    given = texts(60)
    fit, select, report = sets(calibration_from_texts(TOKENIZER, given, examples=32))
    assert len({*fit, *select, *report}) == len(fit) + len(select) + len(report)
    assert {*fit, *select, *report} <= {tuple(TOKENIZER(text).input_ids) for text in given}


def test_a_text_that_comes_twice_is_used_once():
    fit, select, report = sets(calibration_from_texts(TOKENIZER, texts(12) * 5))
    everything = [*fit, *select, *report]
    assert len(everything) == len(set(everything)) == 12


def test_the_sets_have_the_sizes_asked_for():
    assert calibration_from_texts(TOKENIZER, texts(200), examples=40).sizes == (40, 10, 10)


@pytest.mark.parametrize("count", [12, 13, 50])
def test_few_texts_are_split_in_the_same_proportion(count):
    fit, select, report = calibration_from_texts(TOKENIZER, texts(count), examples=1000).sizes
    assert fit == count * 2 // 3
    assert select == report == fit // 4


def test_long_texts_are_drawn_as_much_more_often_as_they_are_longer_and_in_every_set_alike():
    given = [*itertools.islice(words(3), 400), *itertools.islice(words(9), 400)]
    for drawn in sets(calibration_from_texts(TOKENIZER, given, examples=200)):
        long = sum(len(row) == 9 + 2 for row in drawn) / len(drawn)
        assert 0.6 < long < 0.85  # 0.75, less what the long ones run out


def test_no_set_is_empty_however_few_examples():
    assert calibration_from_texts(TOKENIZER, texts(40), examples=1).sizes == (1, 2, 2)


def test_the_same_seed_gives_the_same_sets():
    found = [sets(calibration_from_texts(TOKENIZER, texts(60), examples=20, seed=seed)) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_global_random_state_does_not_matter():
    random.seed(1)
    first = sets(calibration_from_texts(TOKENIZER, texts(60), examples=20))
    state = random.getstate()
    assert sets(calibration_from_texts(TOKENIZER, texts(60), examples=20)) == first
    assert random.getstate() == state


def test_pairs_are_encoded_side_by_side():
    given = texts(24)
    calibration = calibration_from_texts(TOKENIZER, given, given[::-1], examples=16)
    assert all(batch["token_type_ids"].shape == batch["input_ids"].shape for batch in calibration.fit)
    whole = {tuple(TOKENIZER(a, b).input_ids) for a, b in zip(given, given[::-1], strict=True)}
    assert set(rows(calibration.fit)) <= whole


def test_the_same_text_with_another_pair_is_another_text():
    first = ["the cat sat"] * 12
    assert sum(calibration_from_texts(TOKENIZER, first, texts(12)).sizes) == 12


def test_texts_are_cut_to_the_length_asked_for():
    calibration = calibration_from_texts(TOKENIZER, texts(24), examples=16, max_length=5)
    assert max(batch["input_ids"].shape[1] for batch in calibration.fit) == 5


def test_batches_hold_texts_of_similar_length():
    calibration = calibration_from_texts(TOKENIZER, texts(120), examples=80)
    lengths = [batch["attention_mask"].sum(1) for batch in calibration.fit]
    assert all(torch.min(a) >= torch.max(b) for a, b in itertools.pairwise(lengths))


@pytest.mark.parametrize("given", [[], ["the cat"] * 40, texts(11)])
def test_too_few_texts(given):
    with pytest.raises(InputError, match=rf"at least 12 different texts; got {len(set(given))}\. Pass more data"):
        calibration_from_texts(TOKENIZER, given)


def test_blank_texts_do_not_count():
    with pytest.raises(InputError, match=r"at least 12 different texts; got 11\. Pass more data"):
        calibration_from_texts(TOKENIZER, [*texts(11), "", " ", "\n"])


def test_good_texts_give_no_warning():
    assert calibration_from_texts(TOKENIZER, texts(40)).warnings == ()


def test_texts_that_are_not_in_the_vocabulary_are_warned_of():
    foreign = [f"{text} zwei drei" for text in texts(40)]
    (warning,) = calibration_from_texts(TOKENIZER, foreign).warnings
    assert "% of the calibration tokens are not in the vocabulary. Pass texts in the language" in warning


def test_texts_that_are_too_short_are_warned_of():
    (warning,) = calibration_from_texts(TOKENIZER, WORDS.split()).warnings
    assert warning.startswith("calibration texts have 1.0 tokens on average: too short")


def test_every_text_needs_its_pair():
    with pytest.raises(InputError, match=r"every text needs its pair; got 24 texts and 23 pairs"):
        calibration_from_texts(TOKENIZER, texts(24), texts(23))


def test_no_example_is_no_calibration():
    with pytest.raises(InputError, match="no text to tokenise"):
        calibration_from_texts(TOKENIZER, texts(24), examples=0)
