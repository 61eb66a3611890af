"""How fast questions become windows and logits answers, without a model: one core, CPU time of each stage.

python benchmarks/question_answering.py MODEL dev-v1.1.json --out docs/results/question-answering.md
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bench.environment import environment_from_machine
from pruning.atomic import write_text
from pruning.batching import IndexedBatch, bucketed_batches
from pruning.tasks.source import DataSource, load_evaluation
from pruning.tasks.spans import best_spans, predictions_from_spans
from pruning.tasks.squad_metric import answer_scores
from pruning.tasks.text_data import TextData
from pruning.tasks.windows import require_contexts, windows_from_questions

Result = TypeVar("Result")

MAX_LENGTH = 384
STAGES = {
    "windows": "tokenise, cut with strides",
    "batches": "sort by length, pad, as tensors",
    "spans": "the best 20 spans of every window",
    "answers": "the best of all windows, texts, probabilities",
    "score": "exact match and F1",
}


def main() -> None:
    """Measure, print a table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="folder with the tokenizer")
    parser.add_argument("data", help="SQuAD JSON")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--questions", type=int, help="only so many, drawn at random")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = load_evaluation(DataSource(options.data))
    if options.questions is not None:
        data = data.sample(options.questions, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(options.model, model_max_length=512)
    text = report(tokenizer, data, options.batch, options.rounds)
    print(text)
    if options.out is not None:
        write_text(options.out, text)


def report(tokenizer: PreTrainedTokenizerBase, data: TextData, batch: int, rounds: int) -> str:
    """The table as Markdown."""
    measured = [seconds_of_stages(tokenizer, data, batch, seed) for seed in range(rounds)]
    lines = ["| stage | | seconds | questions per second |", "|---|---|---:|---:|"]
    for name, meaning in STAGES.items():
        lines.append(row(name, meaning, [seconds[name] for seconds in measured], len(data)))
    lines.append(row("all", "", [sum(seconds.values()) for seconds in measured], len(data)))
    machine = environment_from_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return "\n".join(
        [
            "# What question answering costs beside the model",
            "",
            f"{len(data):,} questions on {len(set(require_contexts(data))):,} contexts, windows of at most "
            f"{MAX_LENGTH} tokens, batches of {batch}, random logits. CPU seconds of all threads together, median of "
            f"{rounds} rounds (smallest to largest).",
            "",
            *lines,
            "",
            f"{machine.cpu}, {machine.cores} cores, {machine.os}, Python {machine.python}, {versions}.",
            "",
            f"Command: `python benchmarks/question_answering.py MODEL DATA --batch {batch} --rounds {rounds}`.",
            "",
        ]
    )


def row(name: str, meaning: str, seconds: list[float], questions: int) -> str:
    """One line of the table."""
    middle = statistics.median(seconds)
    spread = f"{middle:.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
    return f"| {name} | {meaning} | {spread} | {questions / middle:,.0f} |"


def seconds_of_stages(tokenizer: PreTrainedTokenizerBase, data: TextData, batch: int, seed: int) -> dict[str, float]:
    """CPU seconds of every stage, once."""
    taken: dict[str, float] = {}
    contexts, truths = require_contexts(data), [[right.text for right in answers] for answers in data.answers or ()]
    windows = timed(taken, "windows", lambda: windows_from_questions(tokenizer, data, max_length=MAX_LENGTH))
    batches = timed(taken, "batches", lambda: bucketed_batches(windows.encodings, batch))
    logits = random_logits(batches, seed)
    rows = timed(
        taken,
        "spans",
        lambda: torch.cat([best_spans(*pair, item.batch) for pair, item in zip(logits, batches, strict=True)]),
    )
    places = torch.tensor([index for item in batches for index in item.indices]).argsort()
    found = timed(taken, "answers", lambda: predictions_from_spans(rows[places], windows, contexts))
    texts = [prediction.text for prediction in found]
    timed(taken, "score", lambda: [answer_scores(text, right) for text, right in zip(texts, truths, strict=True)])
    return taken


def timed(taken: dict[str, float], name: str, stage: Callable[[], Result]) -> Result:
    """What the stage gives; its CPU seconds go to ``taken``."""
    start = time.process_time()
    result = stage()
    taken[name] = time.process_time() - start
    return result


def random_logits(batches: list[IndexedBatch], seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Start and end logits of each batch, as no model would give them: the most work to rank."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [item.batch["input_ids"].shape for item in batches]
    return [(torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)) for shape in shapes]


if __name__ == "__main__":
    main()
