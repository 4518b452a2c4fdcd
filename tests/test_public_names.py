"""The public names: they exist, are typed, and cost nothing until they are used."""

import subprocess
import sys

import pytest

import cellcount_jax


def test_every_public_name_is_there():
    assert set(cellcount_jax.__all__) <= set(dir(cellcount_jax))
    for name in cellcount_jax.__all__:
        assert getattr(cellcount_jax, name) is not None
    from cellcount_jax import Counter, Dots, read_dots
    from cellcount_jax.inference import counter
    from cellcount_jax.io.annotations import dots

    assert (Counter, Dots, read_dots) == (counter.Counter, dots.Dots, dots.read_dots)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'cellcount_jax' has no attribute 'Countr'"):
        cellcount_jax.Countr  # noqa: B018


def test_importing_the_package_imports_no_library():
    program = (
        "import sys; before = set(sys.modules); import cellcount_jax\n"
        "print(sorted({m.split('.')[0] for m in set(sys.modules) - before}))\n"
        "from cellcount_jax import read_image\n"
        "print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    imported, jax = done.stdout.splitlines()
    assert "cellcount_jax" in imported
    assert not {"numpy", "jax", "scipy"} & set(eval(imported)), done.stderr
    assert jax == "False"
