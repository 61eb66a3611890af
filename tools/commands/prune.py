"""``slimbert prune``: only the smaller checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from pruning.methods.names import Method
from tools import options
from tools.console import print_json, say


def prune(
    model: options.Model,
    data: options.Data,
    out: Annotated[Path, Option("--out", help="Folder of the compact checkpoint; must be new or empty.")],
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    data_config: options.HubConfig = None,
    speedup: options.Speedup = None,
    density: options.Density = None,
    params: options.Params = None,
    size_bytes: options.Bytes = None,
    shape: options.Shape = None,
    method: options.MethodOption = Method.ONESHOT,
    reconstruct: options.Reconstruct = True,
    calibration: options.Calibration = 1024,
    ffn_multiple: options.FfnMultiple = 32,
    seq: Annotated[int, Option("--seq", help="Sequence length at which FLOPs are counted.")] = 128,
    max_length: options.MaxLength = 128,
    seed: options.Seed = 0,
    with_code: options.WithCode = False,
    config: options.Config = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Prune a fine-tuned BERT into a compact checkpoint. The data are unlabelled text to calibrate on."""
    from tools import settings, standalone

    request = settings.checked_settings(
        settings.PruneSettings,
        method=method,
        target=settings.TargetSettings(speedup=speedup, density=density, params=params, bytes=size_bytes, shape=shape),
        reconstruct=reconstruct,
        calibration=calibration,
        ffn_multiple=ffn_multiple,
    )
    source = settings.DataSettings(
        data=data,
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        data_config=data_config,
    )
    facts = standalone.prune(
        model,
        source,
        request,
        settings.TextSettings(seq=seq, max_length=max_length, seed=seed, with_code=with_code),
        out,
    )
    say(f"{facts['summary']}\nCheckpoint: {out}")
    print_json(facts)
