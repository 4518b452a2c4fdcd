"""Weight files: every format gives the same arrays, and no pickle runs code."""

import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from cellcount_jax.models.weights.torch_checkpoint import read_arrays
from tests.models.weights import torch_files as torch

WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = {
    "features.0.weight": WEIGHT,
    "features.0.bias": np.float16([1.5, -2]),
    "features.1.num_batches_tracked": np.array([7]),
    "classifier.weight": np.float64([[1, 2]]),
}


def write(path, arrays, *, stream=False):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.write_arrays(path, arrays, stream=stream)


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("a.pth", False),
        ("a.pt", False),
        ("a.pth", True),
        ("a.safetensors", False),
        ("a.npz", False),
    ],
)
@pytest.mark.parametrize("prefix", ["", "features.", "features.1"])
def test_every_format_gives_the_arrays(tmp_path, name, stream, prefix):
    write(tmp_path / name, ARRAYS, stream=stream)
    got = read_arrays(tmp_path / name, prefix)
    assert set(got) == {key for key in ARRAYS if key.startswith(prefix)}
    for key, array in got.items():
        assert array.dtype == ARRAYS[key].dtype
        np.testing.assert_array_equal(array, ARRAYS[key])


def test_views_of_one_storage(tmp_path):
    body = torch.state_dict(
        {
            "whole": torch.tensor(WEIGHT, "0"),
            "turned": torch.tensor(WEIGHT, "0", shape=(4, 2, 3), strides=(1, 12, 4)),
            "part": torch.tensor(WEIGHT, "0", offset=16, shape=(2, 4), strides=(4, 1)),
            "scalar": torch.tensor(WEIGHT, "0", offset=5, shape=(), strides=()),
            "empty": torch.tensor(WEIGHT, "0", shape=(0, 3), strides=(3, 1)),
        }
    )
    torch.write_zip(tmp_path / "a.pth", body, {"0": WEIGHT})
    got = read_arrays(tmp_path / "a.pth")
    np.testing.assert_array_equal(got["whole"], WEIGHT)
    np.testing.assert_array_equal(got["turned"], WEIGHT.transpose(2, 0, 1))
    np.testing.assert_array_equal(got["part"], WEIGHT[1, 1:])
    assert got["scalar"] == 5
    assert got["empty"].shape == (0, 3)


@pytest.mark.parametrize(
    "view",
    [
        {"offset": 1},
        {"offset": -1, "shape": (2,), "strides": (1,)},
        {"shape": (25,), "strides": (1,)},
        {"shape": (2,), "strides": (24,)},
        {"shape": (2,), "strides": (-1,)},
        {"shape": (2, 2), "strides": (1,)},
        {"shape": (1 << 30, 1 << 30), "strides": (0, 0)},
    ],
)
def test_no_view_leaves_its_storage(tmp_path, view):
    body = torch.state_dict({"weight": torch.tensor(WEIGHT, "0", **view)})
    torch.write_zip(tmp_path / "a.pth", body, {"0": WEIGHT})
    with pytest.raises(ValueError, match=r"a\.pth: .*reaches beyond its storage of 24"):
        read_arrays(tmp_path / "a.pth")


def attacks(target):
    command = torch.text(f"open({str(target)!r}, 'w').close()")
    nested = torch.call("builtins", "exec", command)
    return {
        "exec": nested,
        "system": torch.call("os", "system", torch.text(f"touch {target}")),
        "posix": torch.call("posix", "system", torch.text(f"touch {target}")),
        "python2": torch.call("__builtin__", "eval", command),
        "getattr": torch.call("builtins", "getattr"),
        "torch": torch.call("torch", "load", torch.text(str(target))),
        "dotted": torch.call("collections", "OrderedDict.fromkeys"),
        "numpy": torch.call("numpy.core.multiarray", "_reconstruct"),
        "instance": b"(" + command + b"ibuiltins\nexec\n",
        "stack_global": torch.text("builtins") + torch.text("exec") + b"\x93" + b"(tR",
        "inside": torch.state_dict({"features.0.weight": nested}),
    }


@pytest.mark.parametrize("write", [torch.write_zip, torch.write_stream])
@pytest.mark.parametrize("name", attacks(""))
def test_a_malicious_pickle_runs_nothing(tmp_path, name, write):
    target, path = tmp_path / "harm", tmp_path / "a.pth"
    write(path, attacks(target)[name], {})
    with pytest.raises(ValueError, match=r"a\.pth: cannot be read as weights: it asks for"):
        read_arrays(path)
    assert not target.exists()


def test_the_attack_of_the_tests_works_on_a_plain_unpickler(tmp_path):
    import pickle

    target = tmp_path / "harm"
    pickle.loads(torch.program(attacks(target)["exec"]))
    assert target.exists()


def test_object_arrays_of_numpy_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", weight=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz: cannot be read as weights: Object arrays"):
        read_arrays(tmp_path / "a.npz")


def damaged(tmp_path):
    good = tmp_path / "good.pth"
    torch.write_arrays(good, ARRAYS)
    stream = tmp_path / "stream.pth"
    torch.write_arrays(stream, ARRAYS, stream=True)
    short = {str(i): array for i, array in enumerate(ARRAYS.values())} | {"0": WEIGHT[:1]}
    body = torch.state_dict({"features.0.weight": torch.tensor(WEIGHT, "0")})
    yield "text.pth", b"not weights at all", "not of a kind that torch.save writes"
    yield "empty.pth", b"", "not of a kind that torch.save writes"
    yield "page.pt", b"<html>404</html>", "not of a kind that torch.save writes"
    yield "page.npz", b"<html>404</html>", "cannot be read as weights"
    yield "page.safetensors", b"<html>404</html>", "cannot be read as weights"
    yield "half.pth", good.read_bytes()[:200], "cannot be read as weights"
    yield "cut.pth", stream.read_bytes()[:-30], "is truncated|cannot be read as weights"
    path = tmp_path / "short.pth"
    torch.write_zip(path, body, short)
    yield "short.pth", path.read_bytes(), "storage 0 of 96 bytes is missing or truncated"
    torch.write_zip(path, body, {"1": WEIGHT})
    yield "missing.pth", path.read_bytes(), "storage 0 of 96 bytes is missing or truncated"
    torch.write_stream(path, body, {"0": WEIGHT[:1]})
    yield "shorter.pth", path.read_bytes(), "storage 0 has 12 elements, not 24"
    torch.write_zip(path, body, {"0": WEIGHT}, byteorder=b"big")
    yield "big.pth", path.read_bytes(), "big-endian"
    torch.write_zip(path, b"](e", {})
    yield "list.pth", path.read_bytes(), "holds a list, not a state dict"
    torch.write_zip(path, torch.state_dict({"epoch": torch.number(3)}), {})
    yield "number.pth", path.read_bytes(), "epoch is a int, not a tensor"
    yield "weights.h5", b"", "not one of the weight files .pth"


def test_damaged_files_give_one_clear_line(tmp_path):
    for name, content, message in damaged(tmp_path):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_arrays(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"none\.pth: no such file"):
        read_arrays(tmp_path / "none.pth")


def test_reading_never_imports_torch(tmp_path):
    torch.write_arrays(tmp_path / "a.pth", ARRAYS)
    before = set(sys.modules)
    read_arrays(tmp_path / "a.pth")
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] == "torch"}
