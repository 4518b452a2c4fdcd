"""How a published protocol splits a dataset: pure functions of names, groups and a seed."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

Splits = dict[str, list[int]]
"""Indices into the list of names by split (train, validation, test, unlabelled)."""

MAX_WITHOUT_VALIDATION = 10
"""With at most this many training images, none are set aside for validation."""

LEGACY_SEED = 5455
"""Seed of the NumPy permutation in the focal-consistency code."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How many images go into which split, and which must stay together.

    Attributes:
      name: Short name in configs and commands.
      source: Where it was published, or its purpose.
      train: Images for training; with `test` and `validation` a ratio if the dataset on disk is
        larger or smaller than the published one.
      test: Images for test.
      validation: Images for validation; 0 takes a tenth (at least two) of `train`.
      unit: `image` shuffles images, `group` keeps groups whole, `stratified` splits every group
        in the same ratio, `legacy` is the fixed permutation of the focal-consistency code,
        `published` uses the group names `train` and `test`.
      labelled: Number of training images that keep their labels; the other training images become
        unlabelled, as do images without dots.
      rest_unlabelled: Whether training images beyond `labelled` are used without their labels.
      fullest_first: Whether the images with most cells keep their labels, as a person who labels
        one or two would choose; else the first after shuffling.
      only: Names of the groups that are used; all if empty.
    """

    name: str
    source: str
    train: int
    test: int
    validation: int = 0
    unit: Literal["image", "group", "stratified", "legacy", "published"] = "image"
    labelled: int | None = None
    rest_unlabelled: bool = True
    fullest_first: bool = False
    only: tuple[str, ...] = ()


def split(
    protocol: Protocol,
    names: Sequence[str],
    groups: Sequence[str],
    labelled: Sequence[bool],
    seed: int,
    *,
    n_train: int | None = None,
    counts: Sequence[int] | None = None,
) -> Splits:
    """Splits a dataset.

    Args:
      protocol: The rule.
      names: Unique name of each image; the result does not depend on their order.
      groups: Group of each image.
      labelled: Whether each image has dots.
      seed: Seed of the shuffle; no effect on the unit `legacy`.
      n_train: Use only this many labelled images for training, including any taken from them for
        validation; the protocol's own validation split is then left out, so that no further
        labels are seen.
      counts: Cells per image, needed by a protocol with `fullest_first`.

    Returns:
      Shuffled indices by split; empty splits are left out.

    Raises:
      ValueError: Names are not unique, or too few images.
    """
    if len(set(names)) != len(names):
        raise ValueError("two images have the same name; names must be unique")
    wanted = {g.casefold() for g in protocol.only}
    order = sorted(range(len(names)), key=names.__getitem__)
    members = [i for i in order if not wanted or groups[i].casefold() in wanted]
    usable = [i for i in members if labelled[i]]
    if len(usable) < 2:
        only = f" in {', '.join(protocol.only)}" if protocol.only else ""
        raise ValueError(
            f"protocol {protocol.name}: at least 2 labelled images are needed, "
            f"{len(usable)} found{only}"
        )
    splits = _divide(protocol, usable, groups, np.random.default_rng(seed))
    if protocol.fullest_first and counts is not None:
        splits["train"] = sorted(splits["train"], key=lambda i: -counts[i])
    splits = _limit_labels(protocol, splits, n_train)
    if protocol.labelled is not None:
        splits["unlabelled"] += [i for i in members if not labelled[i]]
    if not splits["validation"]:
        splits = _carve_validation(splits, groups, seed, whole_groups=protocol.unit == "group")
    return {name: indices for name, indices in splits.items() if indices}


def split_hash(splits: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """Twelve hexadecimal digits that identify the splits, whatever the order within each."""
    by_split = {split: sorted(names[i] for i in rows) for split, rows in splits.items()}
    return hashlib.sha256(json.dumps(by_split, sort_keys=True).encode()).hexdigest()[:12]


def describe_sizes(splits: Mapping[str, Sequence[object]]) -> str:
    """`90 train, 10 validation, ...`."""
    return ", ".join(f"{len(rows)} {split}" for split, rows in splits.items())


def apportion(n: int, shares: Sequence[int]) -> list[int]:
    """Whole numbers in the ratio of `shares` that sum to n; every share above 0 gets at least 1."""
    weights = np.asarray(shares, float)
    exact = n * weights / weights.sum()
    sizes = np.floor(exact).astype(int)
    for i in np.argsort(sizes - exact, kind="stable")[: n - sizes.sum()]:
        sizes[i] += 1
    for i in np.flatnonzero((sizes == 0) & (weights > 0)):
        if sizes.max() > 1:
            sizes[sizes.argmax()] -= 1
            sizes[i] = 1
    return sizes.tolist()


def _divide(
    protocol: Protocol, usable: list[int], groups: Sequence[str], rng: np.random.Generator
) -> Splits:
    shares = [protocol.train, protocol.validation, protocol.test]
    if protocol.unit == "published":
        train = [i for i in usable if groups[i] != "test"]
        test = [i for i in usable if groups[i] == "test"]
        return _named(rng.permutation(train).tolist(), [], test)
    if protocol.unit == "group":
        return _divide_groups(shares, usable, groups, rng)
    if protocol.unit == "stratified":
        strata = sorted({groups[i] for i in usable})
        cuts = [
            _cut(shares, rng.permutation([i for i in usable if groups[i] == g]).tolist())
            for g in strata
        ]
        merged = [[i for c in cuts for i in c[k]] for k in range(3)]
        return _named(*(rng.permutation(rows).tolist() for rows in merged))
    if protocol.unit == "legacy":
        # The published code used NumPy's legacy generator.
        legacy = np.random.RandomState(LEGACY_SEED)
        return _named(*_cut(shares, [usable[i] for i in legacy.permutation(len(usable))]))
    return _named(*_cut(shares, rng.permutation(usable).tolist()))


def _named(train: list[int], validation: list[int], test: list[int]) -> Splits:
    return {"train": train, "validation": validation, "test": test, "unlabelled": []}


def _cut(shares: Sequence[int], rows: list[int]) -> list[list[int]]:
    """Train, validation and test, in this order."""
    n_train, n_validation, _ = apportion(len(rows), shares)
    stop = n_train + n_validation
    return [rows[:n_train], rows[n_train:stop], rows[stop:]]


def _divide_groups(
    shares: Sequence[int], usable: list[int], groups: Sequence[str], rng: np.random.Generator
) -> Splits:
    """Assigns whole groups, largest first, to the split that lacks most images."""
    names = rng.permutation(sorted({groups[i] for i in usable})).tolist()
    rows = {g: [i for i in usable if groups[i] == g] for g in names}
    names.sort(key=lambda g: -len(rows[g]))
    splits: list[list[int]] = [[], [], []]
    lacking = apportion(len(usable), shares)
    for position, group in enumerate(names):
        empty = [k for k in range(3) if shares[k] and not splits[k]]
        must_fill = len(empty) == len(names) - position
        candidates = empty if must_fill else [k for k in range(3) if shares[k]]
        k = max(candidates, key=lambda k: (lacking[k], -len(splits[k])))
        splits[k] += rows[group]
        lacking[k] -= len(rows[group])
    return _named(*splits)


def _limit_labels(protocol: Protocol, splits: Splits, n_train: int | None) -> Splits:
    """Keeps the first training images; the others become unlabelled or are left out."""
    keep = n_train or protocol.labelled
    if keep is None:
        return splits
    train, rest = splits["train"][:keep], splits["train"][keep:]
    limited = splits | {"train": train}
    if n_train:
        limited["validation"] = []
    if protocol.labelled is not None and protocol.rest_unlabelled:
        limited["unlabelled"] = rest
    return limited


def _carve_validation(
    splits: Splits, groups: Sequence[str], seed: int, *, whole_groups: bool
) -> Splits:
    """Moves a tenth of the training images, at least two, to validation."""
    train = splits["train"]
    if len(train) <= MAX_WITHOUT_VALIDATION:
        return splits
    n = max(2, round(len(train) / 10))
    if whole_groups:
        present = list(dict.fromkeys(groups[i] for i in train))
        if len(present) < 2:
            return splits
        smallest = min(present, key=lambda g: sum(groups[i] == g for i in train))
        chosen = [i for i in train if groups[i] == smallest]
    else:
        # Its own random stream: the choice must not depend on how the splits were drawn.
        rng = np.random.default_rng([seed, 1])
        chosen = [train[k] for k in sorted(rng.permutation(len(train))[:n].tolist())]
    rest = [i for i in train if i not in set(chosen)]
    return splits | {"train": rest, "validation": chosen}
