"""The layout of SQuAD's JSON files, version 1.1 and 2, to columns.

Source: Rajpurkar et al. 2016, arXiv:1606.05250; Rajpurkar et al. 2018, arXiv:1806.03822 (unanswerable questions).
"""

from __future__ import annotations

from pruning.tasks.columns import Columns


def is_squad(document: object) -> bool:
    """Whether a JSON document is laid out like SQuAD: articles under ``data``."""
    return isinstance(document, dict) and isinstance(document.get("data"), list)


def columns_from_squad(document: dict[str, object]) -> Columns:
    """Columns ``id``, ``question``, ``context`` and ``answers``, one row per question.

    Raises:
        ValueError: if an article, paragraph or question lacks what it needs.
    """
    columns: dict[str, list[object]] = {"id": [], "question": [], "context": [], "answers": []}
    articles = document["data"]
    assert isinstance(articles, list)
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for item in paragraph["qas"]:
                    columns["id"].append(item["id"])
                    columns["question"].append(item["question"])
                    columns["context"].append(paragraph["context"])
                    columns["answers"].append([] if item.get("is_impossible") else item["answers"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the layout of SQuAD: {type(error).__name__} {error}") from error
    if not columns["id"]:
        raise ValueError("it holds no questions")
    return columns
