"""Which package may import which, and what the public packages offer."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = {"seggpt", "incontext", "data", "train", "configs"}
MAY_IMPORT = {
    "seggpt": set(),
    "incontext": {"seggpt"},
    "data": {"seggpt", "incontext"},
    "train": {"seggpt", "data", "incontext"},
    "configs": {"seggpt", "data", "train", "incontext"},
}
FIXED_NAMES = {
    "incontext": {
        *("Segmenter", "Context", "Example", "load_examples"),
        *("Predictor", "AutomaticMaskGenerator"),
    },
    "seggpt": set(),
}


def imported_packages(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the top-level name of every absolute import, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_flow_one_way(package):
    allowed = MAY_IMPORT[package] | {package}
    against = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, name in imported_packages(path.read_text(encoding="utf-8"))
        if name in OURS - allowed
    ]
    assert against == []


def test_the_rule_sees_every_way_to_import():
    source = "import train.loop as t\ndef f():\n    from data import pairs\nfrom . import configs\n"
    assert sorted(imported_packages(source)) == [(1, "train"), (3, "data")]


@pytest.mark.parametrize("package", sorted(FIXED_NAMES))
def test_every_public_name_is_listed_and_resolves(package):
    module = importlib.import_module(package)
    listed = list(module.__all__)
    assert len(listed) == len(set(listed))
    assert FIXED_NAMES[package] <= set(listed)
    assert [name for name in listed if not hasattr(module, name)] == []
    # Type checkers see the imports, run time sees the list: they must not drift apart.
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert (
        sorted(alias.asname for node in imports for alias in node.names if alias.asname) == listed
    )


@pytest.mark.parametrize("package", ["seggpt", "incontext", "incontext.cli"])
def test_importing_a_package_loads_nothing_heavy(package):
    heavy = {"jax", "flax", "scipy", "numpy", "PIL"}
    code = f"import sys, {package}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
