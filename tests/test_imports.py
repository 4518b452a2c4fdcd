"""Imports go downwards through the packages, never in a circle and never by a string."""

import ast
from pathlib import Path

import pytest

import cellcount_jax

PACKAGE = Path(cellcount_jax.__file__).parent
ORDER = (
    ("main", "cli"),
    ("training",),
    ("reporting",),
    ("explanation",),
    ("export",),
    ("evaluation",),
    ("prediction",),
    ("inference",),
    ("methods",),
    ("datasets",),
    ("simulation",),
    ("data",),
    ("models",),
    ("losses",),
    ("io",),
    ("runtime",),
    ("defaults",),
)
LEVEL = {package: level for level, packages in enumerate(ORDER) for package in packages}

UPWARDS = {("inference.counter", "prediction.predict_files")}
"""The one exception: `Counter.count_files` imports it inside the function."""

IMPORTS_LIBRARIES_BY_NAME = {"io.images.czi_nd2"}
"""Optional libraries alone, which may be missing."""


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, dotted, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(names)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    prefix = "cellcount_jax."
    names = {name.removeprefix(prefix) for name in found if name.startswith(prefix)}
    return {name for name in names if (module_name(path), name) not in UPWARDS}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for p in sorted(PACKAGE.rglob("*.py")) if module_name(p)}


def parsed(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def target(name: str) -> str | None:
    """The file that an imported dotted name lives in."""
    while name:
        if name in FILES:
            return name
        name = name.rpartition(".")[0]
    return None


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downwards(module):
    package = module.split(".")[0]
    assert package in LEVEL, f"{module}: a package that the design does not name"
    for name in imported(FILES[module]):
        other = name.split(".")[0]
        if other in LEVEL and other != package:
            assert LEVEL[other] > LEVEL[package], f"{module} imports {name}, which lies above it"


@pytest.mark.parametrize("module", FILES)
def test_nothing_is_imported_by_a_string(module):
    names = {node.attr for node in ast.walk(parsed(module)) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(parsed(module)) if isinstance(node, ast.Name)}
    by_string = bool({"import_module", "__import__"} & names)
    assert by_string == (module in IMPORTS_LIBRARIES_BY_NAME)


def test_the_exception_is_imported_inside_a_function():
    for module, _ in UPWARDS:
        at_the_top = [n for n in parsed(module).body if isinstance(n, ast.ImportFrom)]
        assert not any((n.module or "").startswith("cellcount_jax.prediction") for n in at_the_top)


def test_no_circles():
    graph = {m: {t for n in imported(p) if (t := target(n)) and t != m} for m, p in FILES.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_configs_and_defaults_never_import_jax():
    files = [*(PACKAGE.parent / "configs").glob("*.py"), PACKAGE / "defaults.py"]
    allowed = (
        "ml_collections",
        "configs",
        "typing",
        "collections.abc",
        "math",
        "cellcount_jax.defaults",
    )
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            for name in names:
                assert name.startswith(allowed), f"{path.name} imports {name}"
