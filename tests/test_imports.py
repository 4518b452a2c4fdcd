"""The structure of the package: imports go one way, folders stay small, methods stay unknown."""

import ast
import collections
from collections.abc import Iterator
from pathlib import Path

import pytest

import cellcount_jax

PACKAGE = Path(cellcount_jax.__file__).parent

ORDER = (
    ("main", "cli"),
    ("napari",),
    ("annotation",),
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
    ("short_trainings",),
    ("defaults",),
)
"""Folders and files of the package, each row importing only rows below it."""

SUBFOLDERS = {
    "io": ("annotations", "images"),
    "models": ("prototypes", "weights", "conv"),
    "methods": ("countxplain",),
    "datasets": ("published", "usable_images"),
    "inference": ("bundled",),
    "training": ("lab",),
    "napari": ("drawing",),
}
"""Sub-folders of a folder, each importing only those after it."""

UPWARD = {("inference.counter", "count_files"): "prediction"}
"""Functions that may import from a folder above their own."""

IMPORTS_BY_STRING = {"io.images.czi_nd2"}
"""Files that import optional third-party packages by name."""

MAX_FILES, MAX_SHARE = 15, 0.22
"""Python files of a folder beside its `__init__`, and share of the package's lines in it."""

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for p in sorted(PACKAGE.rglob("*.py")) if module_name(p)}

IN_SUBFOLDERS = [m for m, p in FILES.items() if len(p.relative_to(PACKAGE).parts) > 2]


def imports(node: ast.AST, function: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names that a piece of code imports from the package, and the function that does."""
    for child in ast.iter_child_nodes(node):
        names = []
        if isinstance(child, ast.ImportFrom):
            assert not child.level, "relative imports are not used"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
        elif isinstance(child, ast.Import):
            names = [alias.name for alias in child.names]
        for name in names:
            if name.startswith("cellcount_jax."):
                yield name.removeprefix("cellcount_jax."), function
        inner = child.name if isinstance(child, ast.FunctionDef) else function
        yield from imports(child, inner)


IMPORTS = {module: list(imports(ast.parse(path.read_text()))) for module, path in FILES.items()}


def target(name: str) -> str | None:
    """The file that an imported dotted name lives in."""
    while name:
        if name in FILES:
            return name
        name = name.rpartition(".")[0]
    return None


@pytest.mark.parametrize("module", FILES)
def test_imports_go_downwards(module):
    folder = module.split(".")[0]
    assert folder in LEVEL, f"{module}: a folder that is not in ORDER"
    for name, function in IMPORTS[module]:
        other = name.split(".")[0]
        if other in LEVEL and other != folder and UPWARD.get((module, function)) != other:
            assert LEVEL[other] > LEVEL[folder], f"{module} imports {name}, which lies above it"


@pytest.mark.parametrize("module", IN_SUBFOLDERS)
def test_subfolders_import_one_way(module):
    folder, *inner = module.split(".")
    order = SUBFOLDERS.get(folder, ())
    assert inner[0] in order, f"{module}: a sub-folder that is not in SUBFOLDERS"
    for name, _ in IMPORTS[module]:
        first, *rest = name.split(".")
        if first == folder and rest and rest[0] in order:
            assert order.index(rest[0]) >= order.index(inner[0]), f"{module} imports {name}"


def test_no_cycles():
    graph = {
        module: {
            other
            for name, function in found
            if (other := target(name)) and other != module and (module, function) not in UPWARD
        }
        for module, found in IMPORTS.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_nothing_of_the_package_is_imported_by_string():
    for path in PACKAGE.rglob("*.py"):
        module, tree = module_name(path), ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = {getattr(node, key, None) for key in ("id", "attr", "name")}
            by_string = names & {
                "import_module",
                "__import__",
                "find_spec",
                "spec_from_file_location",
            }
            if by_string and module not in IMPORTS_BY_STRING:
                raise AssertionError(f"{module}, line {node.lineno}: uses {by_string.pop()}")
            if isinstance(node, ast.Constant) and module in IMPORTS_BY_STRING:
                assert not str(node.value).startswith("cellcount_jax."), module


@pytest.mark.parametrize("module", FILES)
def test_methods_are_known_by_their_interface_alone(module):
    """Outside methods/ nothing imports the module of a paper: the table and `base` are enough."""
    if module.split(".")[0] != "methods":
        for name, _ in IMPORTS[module]:
            if name.startswith("methods."):
                assert target(name) in ("methods", "methods.base"), f"{module} imports {name}"


def test_folders_stay_small():
    lines, files = collections.Counter(), collections.Counter()
    for path in PACKAGE.rglob("*.py"):
        lines[path.relative_to(PACKAGE).parts[0]] += len(path.read_text().splitlines())
        files[path.parent.relative_to(PACKAGE).as_posix()] += path.name != "__init__.py"
    largest, number = lines.most_common(1)[0]
    assert number <= MAX_SHARE * lines.total(), f"{largest} has {number} of {lines.total()} lines"
    assert max(files.values()) <= MAX_FILES, files.most_common(1)


def test_configs_and_defaults_never_import_jax():
    own = (PACKAGE / "defaults.py", PACKAGE / "short_trainings.py")
    files = [*(PACKAGE.parent / "configs").glob("*.py"), *own]
    allowed = (
        "ml_collections",
        "configs",
        "typing",
        "collections.abc",
        "math",
        "cellcount_jax.defaults",
        "cellcount_jax.short_trainings",
    )
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{a.name}" for a in node.names]
            for name in names:
                assert name.startswith(allowed), f"{path.name} imports {name}"
