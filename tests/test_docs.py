"""What README and docs name exists: messages, commands, options, modules, configs, pictures."""

import ast
import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

from cellcount_jax.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

NOT_OURS = ("error: externally-managed-environment", "cellcount: command not found")
"""Messages of pip and the shell that are explained, too."""

EXAMPLE = "configs/toy_vgg.py"
"""Written by the reader who follows docs/extending.md."""

MAX_PICTURE_BYTES = {".png": 200_000, ".webp": 500_000}  # the latter is animated


def _message(node: ast.AST) -> str | None:
    """A string of the code with `...` for what is filled in; None if it is not a string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else "..." for v in node.values)
        return "".join(map(str, parts))
    return None


def _messages() -> list[str]:
    files = [*(ROOT / "cellcount_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")]
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in files)
    found = (_message(node) for tree in trees for node in ast.walk(tree))
    return [re.sub(r"%[a-z]", "...", text) for text in found if text]


def _explained() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    lines = re.findall(r"^`(.+)`\n:", page, re.MULTILINE)
    return [message for line in lines for message in line.split("`, `")]


def test_every_message_that_is_explained_is_one_of_the_code():
    known = _messages()
    for message in _explained():
        parts = [re.escape(part) for part in re.split(r"\s*\.\.\.\s*", message) if part]
        pattern = re.compile(".*".join(parts), re.DOTALL)
        assert message in NOT_OURS or any(pattern.search(text) for text in known), message


def test_modules_and_configs_that_are_named_exist():
    modules = set(re.findall(r"python -m ((?:benchmarks|cellcount_jax)[\w.]*\w)", TEXT))
    modules |= set(re.findall(r"`(benchmarks\.[\w.]*\w)`", TEXT))
    assert len(modules) > 5
    for name in modules:
        assert importlib.util.find_spec(name), name
    for path in re.findall(r"(?<![\w/])(?:configs|tests|docs)/[a-z][\w/]*\.py", TEXT):
        assert (ROOT / path).exists() or path == EXAMPLE, path


def test_files_of_the_package_that_are_named_exist():
    named = set(re.findall(r"`((?:cellcount_jax/)?[a-z_]+/[a-z_/]*\w\.py)`", TEXT))
    assert len(named) > 20
    for path in named:
        places = (ROOT / path, ROOT / "cellcount_jax" / path)
        assert any(place.exists() for place in places), path


def _help(command: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stopped:
        main.main([*command.split(), "-h"])
    assert stopped.value.code == 0, command
    return text.getvalue()


def test_commands_and_options_that_are_named_exist():
    lines = re.findall(r"(?:^|[|`] ?)(cellcount [a-z].*?)(?:`|\||#|$)", TEXT, re.MULTILINE)
    known: dict[str, str] = {}
    for line in lines:
        command = re.match(r"cellcount ((?:data|dots|survey) [a-z]+|[a-z]+)", line)
        assert command, line
        name = command[1]
        text = known.setdefault(name, _help(name))
        for option in re.findall(r"\s(--?[a-z][a-z-]*)", line):
            assert re.search(rf"{re.escape(option)}\b", text), line
    assert {"predict", "train", "propose", "evaluate", "dots check"} <= set(known)


def test_pictures_are_there_and_small():
    shown = {Path(name).name for name in re.findall(r"\]\([\w./]*images/([\w-]+\.\w+)\)", TEXT)}
    files = list((ROOT / "docs" / "images").iterdir())
    assert shown == {path.name for path in files}
    assert all(path.stat().st_size < MAX_PICTURE_BYTES[path.suffix] for path in files)


def test_links_of_the_files_outside_the_site_lead_somewhere():
    for page in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), f"{page.name}: {target}"
