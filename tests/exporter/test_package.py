from __future__ import annotations

import subprocess
import sys

import exporter


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, exporter, exporter.metadata; print(sorted({'torch', 'onnx', 'transformers'} & sys.modules.keys()))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_docstring_says_what_enters_and_leaves():
    assert "Enters:" in exporter.__doc__
    assert "Leaves:" in exporter.__doc__
