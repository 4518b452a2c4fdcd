"""How a published protocol divides a data set: pure functions of names, groups and a seed."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

Split = dict[str, list[int]]
"""Part (train, validation, test, unlabelled) -> indices into the list of names."""

LARGEST_UNCARVED = 10
"""With this many labelled images or fewer none is set aside for validation."""

LEGACY_SEED = 5455
"""Seed of the NumPy permutation of the focal-consistency code."""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How many images go where, and what must stay together.

    Attributes:
      name: short name, as configs and commands give it.
      source: where it was published, or why it is offered.
      train: images to train on; with `test` and `validation` a ratio where the set on disk is
        larger or smaller than the published one.
      test: images for the test part.
      validation: images for validation; 0 carves a tenth (at least two) of `train`.
      unit: `image` shuffles images, `group` keeps groups whole, `stratified` divides every
        group alike, `legacy` is the fixed permutation of the focal-consistency code, `published`
        takes the parts from the group names `train`, `test`.
      labelled: only so many training images keep their labels; the others of the training part
        become unlabelled, as do images without dots.
      rest_unlabelled: whether training images beyond `labelled` are used without their labels.
      fullest_first: whether the images that keep their labels are those with most cells, which is
        what a person would choose who labels one or two; else the first of the shuffled part.
      only: names of the groups that take part; all if empty.
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
) -> Split:
    """Divides a data set.

    Args:
      protocol: what to do.
      names: unique name of each image; the division does not depend on their order.
      groups: group of each image.
      labelled: whether each image has dots.
      seed: chooses the shuffle; without effect on the unit `legacy`.
      n_train: use only so many labelled images to train on, validation included if it is carved;
        the protocol's own validation part is then left out, so that no more labels are seen.
      counts: cells of each image, which a protocol with `fullest_first` asks for.

    Returns:
      Part -> indices, in shuffled order; empty parts are left out.

    Raises:
      ValueError: names are not unique, or too few images.
    """
    if len(set(names)) != len(names):
        raise ValueError("two images have the same name: names must be unique to split them")
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
    parts = _divide(protocol, usable, groups, np.random.default_rng(seed))
    if protocol.fullest_first and counts is not None:
        parts["train"] = sorted(parts["train"], key=lambda i: -counts[i])
    parts = _limit(protocol, parts, n_train)
    if protocol.labelled is not None:
        parts["unlabelled"] += [i for i in members if not labelled[i]]
    if not parts["validation"]:
        parts = _carve(parts, groups, seed, whole_groups=protocol.unit == "group")
    return {part: rows for part, rows in parts.items() if rows}


def split_hash(division: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """Twelve hexadecimal digits that tell two divisions apart, whatever the order within a part."""
    by_name = {part: sorted(names[i] for i in rows) for part, rows in division.items()}
    return hashlib.sha256(json.dumps(by_name, sort_keys=True).encode()).hexdigest()[:12]


def apportion(n: int, shares: Sequence[int]) -> list[int]:
    """Whole numbers in the ratio of `shares` that sum to n; no share above 0 gets nothing."""
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
) -> Split:
    shares = [protocol.train, protocol.validation, protocol.test]
    if protocol.unit == "published":
        train = [i for i in usable if groups[i] != "test"]
        test = [i for i in usable if groups[i] == "test"]
        return _parts(rng.permutation(train).tolist(), [], test)
    if protocol.unit == "group":
        return _divide_groups(shares, usable, groups, rng)
    if protocol.unit == "stratified":
        strata = sorted({groups[i] for i in usable})
        cuts = [
            _cut(shares, rng.permutation([i for i in usable if groups[i] == g]).tolist())
            for g in strata
        ]
        merged = [[i for c in cuts for i in c[k]] for k in range(3)]
        return _parts(*(rng.permutation(rows).tolist() for rows in merged))
    if protocol.unit == "legacy":
        # The published stream is that of NumPy's old generator.
        legacy = np.random.RandomState(LEGACY_SEED)
        return _parts(*_cut(shares, [usable[i] for i in legacy.permutation(len(usable))]))
    return _parts(*_cut(shares, rng.permutation(usable).tolist()))


def _parts(train: list[int], validation: list[int], test: list[int]) -> Split:
    return {"train": train, "validation": validation, "test": test, "unlabelled": []}


def _cut(shares: Sequence[int], rows: list[int]) -> list[list[int]]:
    """Train, validation, test: the first images train, the last test."""
    n_train, n_validation, _ = apportion(len(rows), shares)
    stop = n_train + n_validation
    return [rows[:n_train], rows[n_train:stop], rows[stop:]]


def _divide_groups(
    shares: Sequence[int], usable: list[int], groups: Sequence[str], rng: np.random.Generator
) -> Split:
    """Whole groups, largest first, each to the part that lacks most images."""
    names = rng.permutation(sorted({groups[i] for i in usable})).tolist()
    rows = {g: [i for i in usable if groups[i] == g] for g in names}
    names.sort(key=lambda g: -len(rows[g]))
    parts: list[list[int]] = [[], [], []]
    lacking = apportion(len(usable), shares)
    for position, group in enumerate(names):
        empty = [k for k in range(3) if shares[k] and not parts[k]]
        must_fill = len(empty) == len(names) - position
        among = empty if must_fill else [k for k in range(3) if shares[k]]
        k = max(among, key=lambda k: (lacking[k], -len(parts[k])))
        parts[k] += rows[group]
        lacking[k] -= len(rows[group])
    return _parts(*parts)


def _limit(protocol: Protocol, parts: Split, n_train: int | None) -> Split:
    """Keeps the first labelled training images; the others lose their labels or fall away."""
    keep = n_train or protocol.labelled
    if keep is None:
        return parts
    train, rest = parts["train"][:keep], parts["train"][keep:]
    limited = parts | {"train": train}
    if n_train:
        limited["validation"] = []
    if protocol.labelled is not None and protocol.rest_unlabelled:
        limited["unlabelled"] = rest
    return limited


def _carve(parts: Split, groups: Sequence[str], seed: int, *, whole_groups: bool) -> Split:
    """A tenth of the training part, at least two images, becomes the validation part."""
    train = parts["train"]
    if len(train) <= LARGEST_UNCARVED:
        return parts
    n = max(2, round(len(train) / 10))
    if whole_groups:
        present = list(dict.fromkeys(groups[i] for i in train))
        if len(present) < 2:
            return parts
        smallest = min(present, key=lambda g: sum(groups[i] == g for i in train))
        chosen = [i for i in train if groups[i] == smallest]
    else:
        # A stream of its own: which images are carved must not depend on how parts were drawn.
        rng = np.random.default_rng([seed, 1])
        chosen = [train[k] for k in sorted(rng.permutation(len(train))[:n].tolist())]
    aside = set(chosen)
    return parts | {"train": [i for i in train if i not in aside], "validation": chosen}
