"""``slimbert``: the command line. Every mistake of the user's is one line on standard error and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import Abort, Exit, TyperException

from pruning.errors import InputError
from pruning.processes import is_main_process
from tools.commands import bench, demo, doctor, evaluate, export, fill, finetune, frontier, inspect, prune, run, verify
from tools.console import mode, stderr, stdout

app = typer.Typer(
    name="slimbert",
    help="Turn a fine-tuned BERT into a genuinely smaller, faster one, and prove it on your device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("frontier")(frontier.frontier)
app.command("finetune")(finetune.finetune)
app.command("prune")(prune.prune)
app.command("fill")(fill.fill)
app.command("export")(export.export)
app.add_typer(bench.app, name="bench")
app.command("eval")(evaluate.evaluate)
app.command("inspect")(inspect.inspect)
app.command("verify")(verify.verify)
app.command("doctor")(doctor.doctor)

GATE_FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a gate failed, 2 bad input, 130 interrupted."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it reports on weights that we check ourselves
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.exit(exit_code_from(arguments))


def exit_code_from(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    mode.quiet = mode.as_json = False
    try:
        stdout.quiet = not is_main_process()
        result = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except Exit as stop:
        return stop.exit_code
    except TyperException as error:
        return _refuse(error.format_message())
    except InputError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, Abort):
        result = INTERRUPTED
    except (RuntimeError, OSError) as error:
        return _fail_gate(error) if isinstance(error, RuntimeError) else _refuse(_disk_message(error))
    if result == INTERRUPTED:  # Typer itself turns most Ctrl-C into this
        stderr.print("slimbert: interrupted; what is finished is kept, and --resume continues.", markup=False)
    return result if isinstance(result, int) else 0


def _refuse(message: str) -> int:
    line = " ".join(message.split())
    stderr.print(f"slimbert: {line}", markup=False, soft_wrap=True)
    return BAD_INPUT


def _fail_gate(error: RuntimeError) -> int:
    """An artifact that does not keep its promise, in one line; anything else is a bug and keeps its traceback."""
    from exporter.engine.options import EngineError
    from exporter.fused import FusionError
    from exporter.int8.check import Int8Error
    from exporter.parity import ParityError

    if not isinstance(error, FusionError | Int8Error | ParityError | EngineError):
        raise error
    stderr.print(f"slimbert: {' '.join(str(error).split())}", markup=False, soft_wrap=True)
    return GATE_FAILED


def _disk_message(error: OSError) -> str:
    """One line for the failures of a disk; anything else is a bug and keeps its traceback."""
    where = error.filename or "the output folder"
    if error.errno in FULL:
        return f"no space left on the device while writing {where}. Free some space and try again."
    if error.errno in FORBIDDEN:
        return f"{where} cannot be written ({error.strerror}). Choose another --out."
    raise error


if __name__ == "__main__":
    main()
