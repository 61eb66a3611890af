"""The report of block movement pruning: what is left of every layer and matrix, and the way there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.report import wording
from bench.report.experiment_tables import ReportTable
from bench.report.movement_plots import matrices_svg, schedule_svg
from bench.report.plots import kept_svg
from bench.report.render import render
from pruning.arch import ArchSpec, head_params, neuron_params


def html_from_movement(record: Mapping[str, Any]) -> str:
    """A page that stands alone, from the content of ``movement.json``."""
    facts, dense = record["facts"], ArchSpec.from_dict(record["dense_arch"])
    heads, neurons = ([len(units) for units in record[name]] for name in ("heads", "neurons"))
    return render(
        "movement.html.jinja",
        {
            "summary": facts["summary"],
            "variant": record["spec"]["variant"],
            "aim": record["aim"],
            "cards": _cards(record, dense),
            "scores": _scores(facts),
            "tables": [_layer_table(record, dense)],
            "kept_plots": [
                kept_svg("Attention heads", heads, dense.heads),
                kept_svg("FFN neurons", neurons, dense.ffn),
            ],
            "schedule_plot": schedule_svg(record["history"], record["wanted"]),
            "matrix_plots": [matrices_svg(pictures) for pictures in record["pictures"]],
            "settings": _settings(record),
        },
    )


def _cards(record: Mapping[str, Any], dense: ArchSpec) -> list[tuple[str, str, str]]:
    heads, neurons = (sum(len(units) for units in record[name]) for name in ("heads", "neurons"))
    inner = record["inner_density"]
    return [
        ("Encoder weights left", f"{record['density']:.1%}", f"asked for: {record['aim']}"),
        ("Heads", f"{heads}", f"of {sum(dense.heads)}"),
        ("FFN neurons", f"{neurons:,}", f"of {sum(dense.ffn):,}"),
        ("Inner density", f"{inner['attention']:.1%}", f"of living heads before any fill; FFN {inner['ffn']:.1%}"),
    ]


def _scores(facts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, size and metric of the dense model, of the pruned one before the fill if there was one, and of the last."""
    names = {"dense": "dense", "unfilled": "pruned, holes left", "candidate": "pruned"}
    rows = []
    for key, name in names.items():
        if key in facts:
            metric = facts[key]["metric"]
            text = f"{wording.metric_name_text(metric['name'])} {wording.metric_text(metric['name'], metric['value'])}"
            rows.append((name, wording.count_text(facts[key]["params"]), text))
    return rows


def _layer_table(record: Mapping[str, Any], dense: ArchSpec) -> ReportTable:
    rows = []
    for index, (before, inner) in enumerate(zip(dense.layers, record["layers"], strict=True)):
        heads, neurons = len(record["heads"][index]), len(record["neurons"][index])
        whole = head_params(dense) * before.heads + neuron_params(dense) * before.ffn
        left = head_params(dense) * heads + neuron_params(dense) * neurons
        rows.append(
            (
                str(index + 1),
                f"{heads} of {before.heads}",
                f"{neurons} of {before.ffn}",
                f"{left / whole:.1%}" if whole else "-",
                f"{inner['attention']:.1%}" if heads else "-",
                f"{inner['ffn']:.1%}" if neurons else "-",
            )
        )
    columns = ("layer", "heads", "FFN neurons", "weights left", "inner density, heads", "inner density, FFN")
    note = (
        "Weights left: those of heads and neurons that live, holes included, because holes cost full time. Inner "
        "density: the share of them that is not zero, before any fill."
    )
    return ReportTable("Layers", columns, tuple(rows), 1, note)


def _settings(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    spec, schedule = record["spec"], record["schedule"]
    filled = record.get("filled_weights")
    rows = [
        ("variant", spec["variant"]),
        ("mask function", f"{spec['attention']['mask_function']}; FFN {spec['ffn']['mask_function']}"),
        ("block", "x".join(map(str, spec["block"]))),
        ("schedule", f"{schedule['total_steps']} steps, holds of {schedule['hold_steps']} and "
         f"{schedule['final_hold_steps']}"),
        ("threshold at the end", f"{record['threshold']:.3f}"),
        ("lambda at the end", f"{record['penalty_lambda']:.3g}"),
    ]  # fmt: skip
    return rows if filled is None else [*rows, ("weights filled", wording.count_text(filled))]
