import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.datasets.splits import Protocol, apportion, split, split_hash

SHUFFLED = Protocol("shuffled", "a test", train=5, test=4, validation=1)


def names_of(n: int) -> list[str]:
    return [f"{i:03d}" for i in range(n)]


def sizes(division: dict[str, list[int]]) -> dict[str, int]:
    return {part: len(rows) for part, rows in division.items()}


def divide(protocol: Protocol, n: int, groups=None, labelled=None, seed=0, **kwargs):
    return split(protocol, names_of(n), groups or [""] * n, labelled or [True] * n, seed, **kwargs)


@pytest.mark.parametrize(
    ("name", "protocol", "n", "train", "validation", "test"),
    [
        ("vgg_cells", "dcl", 200, 100, 10, 90),
        ("vgg_cells", "sau", 200, 58, 6, 136),
        ("vgg_cells", "half", 200, 90, 10, 100),
        ("mbm", "dcl", 44, 22, 2, 20),
        ("mbm", "sau", 44, 13, 2, 29),
        ("adi", "dcl", 200, 100, 10, 90),
        ("adi", "sau", 200, 45, 5, 150),
        ("dcc", "dcl", 176, 88, 9, 79),
        ("dcc", "sau", 176, 90, 10, 76),
        ("dcc", "countxplain", 176, 90, 10, 76),
    ],
)
def test_published_sizes(name, protocol, n, train, validation, test):
    division = divide(BENCHMARKS[name].protocols[protocol], n)
    assert sizes(division) == {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_protocol_splits(name):
    groups = ["train", "test", "DAPI", "Cy3"] * 13
    for protocol in BENCHMARKS[name].protocols.values():
        division = divide(protocol, 52, groups)
        rows = [i for part in division.values() for i in part]
        assert len(rows) == len(set(rows))
        assert division["train"]
        assert division["test"]


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 60), st.integers(0, 3), st.sampled_from(["image", "group", "stratified"]))
def test_splits_are_disjoint_and_complete(n, seed, unit):
    groups = [f"g{i % 7}" for i in range(n)]
    division = divide(Protocol("p", "", 10, 9, 1, unit=unit), n, groups, seed=seed)
    rows = sorted(i for part in division.values() for i in part)
    assert rows == list(range(n))


def test_the_order_of_the_names_has_no_effect():
    names = names_of(20)
    forward = split(SHUFFLED, names, [""] * 20, [True] * 20, 3)
    backward = split(SHUFFLED, names[::-1], [""] * 20, [True] * 20, 3)
    for part, rows in forward.items():
        assert [names[i] for i in rows] == [names[::-1][i] for i in backward[part]]


def test_seeds_differ_and_repeat():
    assert divide(SHUFFLED, 20, seed=1) == divide(SHUFFLED, 20, seed=1)
    assert divide(SHUFFLED, 20, seed=1) != divide(SHUFFLED, 20, seed=2)


def test_groups_stay_whole():
    slides = [f"slide{i // 4}" for i in range(44)]
    for seed in range(5):
        division = divide(BENCHMARKS["mbm"].protocols["dcl_by_slide"], 44, slides, seed=seed)
        assert sizes(division) == {"train": 20, "validation": 4, "test": 20}
        owners = [{slides[i] for i in rows} for rows in division.values()]
        assert sum(map(len, owners)) == len(set().union(*owners)) == 11


def test_carved_validation_is_a_whole_group():
    groups = [f"e{i // 4}" for i in range(40)]
    division = divide(Protocol("p", "", 30, 10, unit="group"), 40, groups)
    assert sizes(division) == {"train": 24, "validation": 4, "test": 12}
    assert len({groups[i] for i in division["validation"]}) == 1
    owners = [{groups[i] for i in rows} for rows in division.values()]
    assert sum(map(len, owners)) == len(set().union(*owners))


def test_strata_are_split_in_the_same_ratio():
    groups = ["a"] * 40 + ["b"] * 20
    division = divide(Protocol("p", "", 2, 1, 1, unit="stratified"), 60, groups)
    for part, n in {"train": 20, "validation": 10, "test": 10}.items():
        assert sum(groups[i] == "a" for i in division[part]) == n
        assert sum(groups[i] == "b" for i in division[part]) == n // 2


def test_consistency_uses_the_published_permutation():
    order = np.random.RandomState(5455).permutation(200).tolist()
    protocol = BENCHMARKS["vgg_cells"].protocols["consistency"]
    division = divide(protocol, 200, seed=7)
    assert division["train"] == order[:8]
    assert division["unlabelled"] == order[8:100]
    assert division["test"] == order[100:]
    assert "validation" not in division


def test_light_sheet_has_one_labelled_volume():
    groups = ["train"] * 16 + ["test"] * 5 + ["unlabelled"] * 55
    labelled = [g != "unlabelled" for g in groups]
    protocols = BENCHMARKS["light_sheet"].protocols
    division = divide(protocols["consistency"], 76, groups, labelled)
    assert sizes(division) == {"train": 1, "test": 5, "unlabelled": 55}
    assert sorted(division["test"]) == list(range(16, 21))
    assert (
        divide(protocols["consistency"], 76, groups, labelled, n_train=4)["train"][:1]
        == (division["train"])
    )
    supervised = divide(protocols["supervised"], 76, groups, labelled)
    assert sizes(supervised) == {"train": 14, "validation": 2, "test": 5}


def test_unlabelled_images_are_in_neither_train_nor_test():
    labelled = [i % 2 == 0 for i in range(20)]
    division = divide(SHUFFLED, 20, labelled=labelled)
    assert all(labelled[i] for rows in division.values() for i in rows)
    assert "unlabelled" not in division


def test_only_one_group():
    groups = ["DAPI"] * 119 + ["Cy3"] * 50
    protocol = BENCHMARKS["idcia"].protocols["countxplain"]
    division = divide(protocol, 169, groups)
    assert sizes(division) == {"train": 90, "validation": 10, "test": 19}
    assert max(i for rows in division.values() for i in rows) < 119
    with pytest.raises(ValueError, match="at least 2 labelled images are needed, 0 found in D"):
        divide(protocol, 5, ["Cy3"] * 5)


def test_few_training_images_are_nested_and_no_other_labels_are_used():
    half = BENCHMARKS["vgg_cells"].protocols["half"]
    ten, thirty = (divide(half, 200, n_train=n) for n in (10, 30))
    assert sizes(ten) == {"train": 10, "test": 100}
    assert sizes(thirty) == {"train": 27, "validation": 3, "test": 100}
    assert set(ten["train"]) <= {*thirty["train"], *thirty["validation"]}
    assert ten["test"] == divide(half, 200)["test"]
    dcl = divide(BENCHMARKS["vgg_cells"].protocols["dcl"], 200, n_train=10)
    assert sizes(dcl) == {"train": 10, "test": 90}


def test_datasets_of_another_size_keep_the_ratio():
    assert sizes(divide(BENCHMARKS["vgg_cells"].protocols["dcl"], 20)) == {
        "train": 10,
        "validation": 1,
        "test": 9,
    }


def test_apportion():
    assert apportion(176, [88, 9, 79]) == [88, 9, 79]
    assert apportion(3, [100, 10, 90]) == [1, 1, 1]
    assert apportion(10, [1, 0, 1]) == [5, 0, 5]


def test_the_hash_identifies_the_splits():
    names = names_of(20)
    division = divide(SHUFFLED, 20)
    shuffled = {part: rows[::-1] for part, rows in division.items()}
    assert split_hash(division, names) == split_hash(shuffled, names)
    assert split_hash(division, names) != split_hash(divide(SHUFFLED, 20, seed=1), names)
    assert len(split_hash(division, names)) == 12


def test_duplicate_names():
    with pytest.raises(ValueError, match="same name"):
        split(SHUFFLED, ["a", "a"], ["", ""], [True, True], 0)


def test_the_fullest_images_keep_their_labels_if_the_protocol_says_so():
    counts = [3, 9, 4, 1, 8, 2, 7, 5, 6, 0]
    few = Protocol("few", "a test", train=8, test=2, labelled=2, fullest_first=True)
    division = divide(few, 10, counts=counts)
    rest = [counts[i] for i in division["unlabelled"]]
    assert min(counts[i] for i in division["train"]) > max(rest)
    assert len(division["train"]) == 2
