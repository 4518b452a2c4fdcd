"""The mutation test's list fits the code, and its verdicts are right."""

import pytest

from benchmarks.exactness import mutations
from benchmarks.exactness.mutation_list import MUTATIONS, Mutation


@pytest.fixture
def copy(tmp_path):
    """A repository of one function and one test of it."""
    (tmp_path / "maths.py").write_text("def double(x):\n    return 2 * x\n")
    (tmp_path / "test_maths.py").write_text(
        "from maths import double\n\n\ndef test_double():\n    assert double(3) == 6\n"
    )
    return tmp_path


DOUBLE = Mutation("triples", "maths.py", "2 * x", "3 * x", ("test_maths.py",))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_applies_and_names_tests_that_exist(mutation):
    original = (mutations.ROOT / mutation.file).read_text()
    assert mutations.mutated(mutation, mutations.ROOT) != original
    for test in mutation.tests:
        path, _, name = test.partition("::")
        assert (mutations.ROOT / path).exists()
        assert not name or f"def {name}(" in (mutations.ROOT / path).read_text()


def test_there_are_many_mutations_of_different_names():
    assert mutations.chosen([]) == list(MUTATIONS)
    assert len(MUTATIONS) >= 30


def test_a_wrong_line_is_caught_and_put_right_again(copy):
    found = mutations.try_mutation(DOUBLE, copy, seconds=60)
    assert (found.verdict, found.first) == ("caught", "test_maths.py::test_double")
    assert "2 * x" in (copy / "maths.py").read_text()


def test_what_no_test_notices_has_survived(copy):
    same = DOUBLE._replace(new="x + x")
    assert mutations.try_mutation(same, copy, seconds=60).verdict == "SURVIVED"


def test_a_text_that_is_gone_is_an_error(copy):
    with pytest.raises(
        mutations.MutationError, match=r"triples no longer applies: maths\.py contains"
    ):
        mutations.mutated(DOUBLE._replace(old="4 * x"), copy)


def test_tests_that_cannot_run_say_nothing(copy):
    broken = DOUBLE._replace(new="2 * (x")
    with pytest.raises(mutations.MutationError, match="no failed test"):
        mutations.try_mutation(broken, copy, seconds=60)
    assert "2 * x\n" in (copy / "maths.py").read_text()


def test_an_unknown_name_is_refused():
    with pytest.raises(mutations.MutationError, match="no mutation is named nothing"):
        mutations.chosen(["nothing"])
