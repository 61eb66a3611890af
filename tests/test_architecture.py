"""The house rules that no single module can hold: arrows, optional libraries, sizes."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["pruning", "exporter", "bench", "tools"]
"""In the order of the arrows: each may import itself and what stands before it."""
OPTIONAL = ["onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "optimum", "pynvml"]
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LIGHT = [
    "pruning",
    "pruning.arch",
    "pruning.errors",
    "pruning.atomic",
    "pruning.methods.names",
    "pruning.movement.names",
]
"""What must load in an instant: neither torch nor transformers nor anything that brings them."""


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path):
    """Absolute names of everything that a file imports, inside functions too."""
    package = name_of(path).split(".") if path.name == "__init__.py" else name_of(path).split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            found.add(".".join([*parents, *([node.module] if node.module else [])]))
    return found


def run(code, home):
    """Runs ``code`` in a fresh interpreter that finds this tree and writes its caches to ``home``."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path):
    layer = PACKAGES.index(path.relative_to(ROOT).parts[0])
    roots = {name.split(".")[0] for name in imported_modules(path)}
    assert not roots & set(PACKAGES[layer + 1 :])
    assert "tests" not in roots


def test_the_timer_knows_neither_models_nor_runtimes():
    """Nothing but the standard library, numpy and the error type."""
    names = imported_modules(ROOT / "bench" / "timer.py")
    outside = {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}
    assert outside <= {"numpy", "pruning.errors"}


@pytest.mark.parametrize(
    "path", [ROOT / "pruning" / name for name in ("config.py", "model.py", "heads.py")], ids=name_of
)
def test_code_that_a_checkpoint_carries_needs_torch_and_transformers_alone(path):
    names = {name for name in imported_modules(path) if name.split(".")[0] not in sys.stdlib_module_names}
    carried = {"pruning.config", "pruning.model", "pruning.heads"}
    assert {name for name in names if name.split(".")[0] not in ("torch", "transformers")} <= carried


def test_light_modules_load_neither_torch_nor_transformers(tmp_path):
    code = f"import sys, {', '.join(LIGHT)}; print([x for x in ('torch', 'transformers', 'numpy') if x in sys.modules])"
    answer = run(code, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


def test_every_module_imports_without_the_optional_libraries(tmp_path):
    code = f"""
import importlib, sys

sys.modules |= dict.fromkeys({OPTIONAL})  # None there: "import" fails, and so does looking for it
for name in {[name_of(path) for path in FILES]}:
    importlib.import_module(name)
"""
    answer = run(code, tmp_path)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_under_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize("path", [path for path in FILES if path.relative_to(ROOT).parts[0] != "tools"], ids=name_of)
def test_nothing_prints_outside_the_command_line(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_for_and_what_it_offers(package):
    for path in (ROOT / package).rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
        names |= {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
        assert ast.get_docstring(tree), path
        assert "__all__" in names, path


def test_the_packages_in_pyproject_are_those_on_disk():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted({name_of(path.parent / "__init__.py") for path in FILES})


def test_every_folder_with_modules_is_a_package():
    assert [str(path) for path in FILES if not (path.parent / "__init__.py").is_file()] == []


def test_every_test_stands_in_a_package():
    assert [
        str(path) for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").is_file()
    ] == []
