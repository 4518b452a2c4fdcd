"""Configs by the names that commands give them."""

import ast
import functools
import importlib
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict


def read_config(name: str, fields: Sequence[str] = ()) -> ConfigDict:
    """The config of `FILE.py:preset`.

    Args:
      name: Path of a config file, relative to the repository, and its preset.
      fields: Changed fields, such as `model.base_channels=16`.

    Raises:
      ValueError: The config has no such field.
    """
    path, _, preset = name.partition(":")
    module = importlib.import_module(".".join(Path(path).with_suffix("").parts))
    config: ConfigDict = module.get_config(preset)
    for field in fields:
        key, _, value = field.partition("=")
        *parents, last = key.split(".")
        section = functools.reduce(lambda node, part: node.get(part, {}), parents, config)
        if last not in section:
            raise ValueError(f"{field}: {name} has no field {key}")
        section[last] = _parsed(value)
    return config


def _parsed(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
