"""Models that embed, on pairs of sentences: the commands never show the encoder both at once."""

import csv
import random

import pytest

from pruning.batching import Encodings
from pruning.checkpoint import save_checkpoint
from tests.tiny import WORDS, tiny_bert, tiny_tokenizer
from tests.tools.conftest import QUICK

SHAPE = ("--speedup", "1.5", "--ffn-multiple", "4")
STEPS = {
    "prune": ("prune", "embedder", *SHAPE, "--seq", "16"),
    "gradual": ("prune", "embedder", *SHAPE, "--seq", "16", "--method", "gradual", "--cpu"),
    "run": ("run", "embedder", "--task", "feature-extraction", "--speedup", "1.5", *QUICK),
    "export": ("export", "embedder", "--dtype", "int8"),
}


@pytest.fixture
def pairs(project):
    """The current folder holds ``embedder`` and 60 scored ``pairs.csv``."""
    model = tiny_bert("encoder", std=0.1, hidden_size=64, intermediate_size=96, num_attention_heads=2)
    save_checkpoint(model, tiny_tokenizer(), project / "embedder")
    generator, words = random.Random(0), WORDS.split()
    with (project / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["sentence1", "sentence2", "score"])
        for _ in range(60):
            first, second = (" ".join(generator.sample(words, generator.randint(4, 7))) for _ in range(2))
            writer.writerow([first, second, generator.random() * 5])
    return project


@pytest.mark.parametrize("step", STEPS)
def test_every_text_of_a_pair_is_read_alone(slimbert, pairs, monkeypatch, step):
    check, seen = Encodings.__post_init__, []

    def watched(self):
        check(self)
        seen.extend(map(max, self.token_type_ids))

    monkeypatch.setattr(Encodings, "__post_init__", watched)
    code, _, error = slimbert(*STEPS[step], "--data", "pairs.csv", "--out", "out", "--quiet")
    assert code == 0, error
    assert seen
    assert not any(seen)
