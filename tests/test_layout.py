"""The house: no import cycles, no arrow from a folder back to one that uses it, no large rooms."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("seggpt", "incontext", "data", "train", "configs")
MOST_FILES = 18  # in a folder
MOST_LINES = 350  # of a module
MOST_LINES_OF_FUNCTION = 60
MOST_LINES_OF_FACADE = 200  # `Segmenter`

SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(module: str) -> Iterable[str]:
    """Yield the modules of ours that one imports, wherever it does, types' imports included."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in SOURCES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in SOURCES:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in SOURCES else node.module for name in names)


def assert_no_cycle(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


# The public packages list names that load on first use: no module needs them to be imported.
GRAPH = {
    module: set() if module in ("seggpt", "incontext") else {*imported(module)} - {module}
    for module in SOURCES
}


def test_no_module_is_part_of_an_import_cycle():
    assert_no_cycle(GRAPH)


def test_folders_beside_each_other_depend_one_way():
    graphs: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for module, others in GRAPH.items():
        folder = SOURCES[module].parent.relative_to(ROOT).parts
        for other in others:
            target = SOURCES[other].parent.relative_to(ROOT).parts
            for depth in range(min(len(folder), len(target))):
                if folder[depth] != target[depth]:
                    above = "/".join(folder[:depth])
                    graphs[above][folder[depth]].add(target[depth])
                    break
    assert {"", "incontext", "incontext/cli", "seggpt"} <= set(graphs)
    for graph in graphs.values():
        assert_no_cycle(graph)


def test_a_cycle_would_be_seen():
    with pytest.raises(pytest.fail.Exception, match="a"):
        assert_no_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_no_folder_has_too_many_files():
    counts = Counter(path.parent for path in [*SOURCES.values(), *(ROOT / "tests").rglob("*.py")])
    assert {str(folder): n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_no_module_and_no_function_is_too_long():
    long = {}
    for module, path in SOURCES.items():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > MOST_LINES:
            long[module] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            most = MOST_LINES_OF_FUNCTION
            if isinstance(node, ast.ClassDef) and node.name == "Segmenter":
                most = MOST_LINES_OF_FACADE
            elif not isinstance(node, ast.FunctionDef):
                continue
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > most:
                long[f"{module}.{node.name}"] = lines
    assert long == {}
