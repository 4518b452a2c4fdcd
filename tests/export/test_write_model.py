"""A counter in one file counts as its run does; damaged and foreign files are refused."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from etils import epath

from cellcount_jax.cli import main
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.export import provenance, write_model
from cellcount_jax.inference import model_file
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Variables
from cellcount_jax.runtime import checkpoint
from configs import dcl_vgg, density_vgg
from tests.inference.made_counters import cells, made


def facts_of(counter: Counter, method: str, config) -> dict:
    return {
        "schema": model_file.SCHEMA,
        "method": method,
        "stage": counter.stage.name,
        "stages": [counter.stage.name],
        "config": config.to_dict(),
        "preprocessing": counter.preprocessing.to_dict(),
        "readout": dataclasses.asdict(counter.stage.readout),
        "resampling": Resampling(factor=0.75).to_dict(),
        "window": counter.stage.window,
        "train_names": ["a", "b"],
        "step": 20,
        "seconds": 3.0,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run of the default counter, with random weights."""
    workdir = tmp_path_factory.mktemp("lab") / "run"
    counter = made("density")
    config = density_vgg.get_config("tiny")
    config.model.channels = (4, 6, 8)
    config.data.name = "/home/someone/images of mice"
    folder = epath.Path(workdir) / "checkpoints" / counter.stage.name
    checkpoint.save_final(folder, counter.variables._asdict(), facts_of(counter, "density", config))
    results = {"split": "test", "mae": 1.5, "dataset": "mice", "versions": {"jax": "0.10.2"}}
    (workdir / "results.json").write_text(json.dumps(results))
    line = {"step": 20, "stage": "density", "split": "validation", "mae": 2.5}
    (workdir / "metrics.jsonl").write_text(json.dumps({**line, "step": 10}) + json.dumps(line)[:9])
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write("\n" + json.dumps(line) + "\n")
    return workdir


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "m.cellcount"
    write_model.export_model(run, path)
    return path


def rewritten(file, tmp_path, change):
    """A copy of the file with changes to its header and tensors."""
    with safetensors.safe_open(file, framework="numpy") as opened:
        header = json.loads(opened.metadata()["cellcount"])
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    header = change(header, arrays) or header
    path = tmp_path / "changed.cellcount"
    metadata = {"cellcount": json.dumps(header)}
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    return path


def test_the_same_counts_bit_for_bit(run, file):
    image = cells((60, 44))
    from_run, from_file = (Counter.load(path).count(image) for path in (run, file))
    assert from_file.count == from_run.count
    np.testing.assert_array_equal(from_file.maps["density"], from_run.maps["density"])
    np.testing.assert_array_equal(from_file.points, from_run.points)
    assert len(from_file.points) > 3
    assert from_file.scale == 0.75


def test_a_file_needs_neither_the_run_nor_orbax(file):
    program = (
        "import sys, numpy as np\n"
        "from cellcount_jax.inference.counter import Counter\n"
        f"counter = Counter.load({str(file)!r})\n"
        "print(counter.facts['training']['mae'])\n"
        "print([m for m in sys.modules if m.startswith(('orbax', 'tensorstore', 'grain'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1.5", "[]"], done.stderr


def test_facts_hold_the_provenance_and_no_private_paths(run, file):
    facts = model_file.read(file)[1]
    training = facts["training"]
    assert training["validation"] == {"mae": 2.5}
    assert (training["mae"], training["split"], training["n_train"]) == (1.5, "test", 2)
    assert training["exported_with"]["jax"] == jax.__version__
    assert facts["config"]["data"]["name"] == "images of mice"
    assert "/home/someone" not in json.dumps(facts)
    assert facts["weights"]["dtype"] == "float32"
    assert facts["weights"]["max_error"] == 0


def test_metrics_of_a_run_are_not_those_of_its_first_stage(run):
    facts = Counter.load(run).facts | {"stages": ["density", "another"]}
    training = provenance.training_facts(run, facts)
    assert "mae" not in training
    assert training["dataset"] == "mice"


def test_a_file_is_exported_again_with_its_facts(file, tmp_path):
    facts = write_model.export_model(file, tmp_path / "again.cellcount")
    assert facts == model_file.read(file)[1]
    assert (tmp_path / "again.cellcount").read_bytes() == file.read_bytes()


def test_half_precision_halves_the_size_and_states_the_largest_error(run, file, tmp_path):
    half = tmp_path / "half.cellcount"
    facts = write_model.export_model(run, half, half=True)
    assert facts["weights"]["dtype"] == "float16"
    assert facts["weights"]["bytes"] < 0.6 * model_file.read(file)[1]["weights"]["bytes"]
    whole, halved = Counter.load(file).variables, Counter.load(half).variables
    errors = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), whole, halved)
    assert max(jax.tree.leaves(errors)) == facts["weights"]["max_error"] > 0
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(halved))
    image = cells((60, 44))
    counts = [Counter.load(path).count(image).count for path in (file, half)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    large = {"trained": {"kernel": np.full((2, 2), 1e6, np.float32)}}
    write_model.write_model(half, large, {"stage": "s"}, half=True)
    assert model_file.read(half)[0]["trained"]["kernel"].max() == 1e6


def test_empty_dicts_scalars_and_other_types_come_back(tmp_path):
    counter = made("dcl")  # its localizer holds a whole counter, with empty parts, as frozen
    tree = counter.variables._asdict()
    tree["extras"] = {"level": np.float32(0.5), "index": np.arange(3), "seen": np.array([True])}
    tree["trained"] = {**tree["trained"], "turned": np.arange(6.0).reshape(2, 3).T}
    write_model.write_model(tmp_path / "m.cellcount", tree, {"stage": "s"})
    back, _ = model_file.read(tmp_path / "m.cellcount")
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert (np.shape(a), np.asarray(a).dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
    assert Variables(**back["frozen"]).frozen == {}


def test_damaged_files_are_refused_in_one_line(file, tmp_path):
    data = file.read_bytes()
    n = int.from_bytes(data[:8], "little")
    middle = bytearray(data)
    middle[8 + n + 1000] ^= 1
    scaled = data.replace(b'\\"factor\\": 0.75', b'\\"factor\\": 0.85')
    assert scaled != data
    wrong = {
        "cut": data[:-5],
        "head": data[:6],
        "nothing": b"",
        "long": b"\xff" * 8 + data[8:],
        "bit": bytes(middle),
        "fact": scaled,
        "other": safetensors.numpy.save({"a": np.zeros(2)}),
    }
    for name, content in wrong.items():
        path = tmp_path / f"{name}.cellcount"
        path.write_bytes(content)
        with pytest.raises(model_file.ModelFileError, match=name) as caught:
            Counter.load(path)
        assert "\n" not in str(caught.value)
    for name in ("bit", "fact"):
        with pytest.raises(ValueError, match="does not fit its checksum"):
            Counter.load(tmp_path / f"{name}.cellcount")
    with pytest.raises(ValueError, match="holds no counter"):
        Counter.load(tmp_path / "other.cellcount")
    with pytest.raises(ValueError, match="no such file"):
        Counter.load(tmp_path / "absent.cellcount")


def test_a_newer_format_is_refused(file, tmp_path):
    path = rewritten(file, tmp_path, lambda header, _: {**header, "format": 3})
    with pytest.raises(ValueError, match=r"of format 3, .* reads formats up to 2; install a newer"):
        Counter.load(path)


def test_a_run_of_a_newer_schema_is_refused(run, tmp_path):
    variables, facts = checkpoint.load_stage(run)
    folder = epath.Path(tmp_path) / "checkpoints" / "density"
    checkpoint.save_final(folder, variables, facts | {"schema": 3})
    with pytest.raises(ValueError, match=r"its schema is 3 .* reads up to 2; install a newer"):
        Counter.load(tmp_path)


def test_a_tensor_that_is_missing_or_another_method_is_refused(file, tmp_path):
    path = rewritten(file, tmp_path, lambda _, arrays: arrays.popitem() and None)
    with pytest.raises(ValueError, match="checksum"):
        Counter.load(path)

    def unknown(header, arrays):
        header["facts"]["method"] = header["facts"]["config"]["method"] = "unheard"
        del header["sha256"]
        header["sha256"] = model_file.digest(arrays, header)

    with pytest.raises(ValueError, match=r"cannot build this model .*'unheard'"):
        Counter.load(rewritten(file, tmp_path, unknown))


def test_an_old_file_stays_when_a_new_one_cannot_be_written(file, tmp_path):
    path = tmp_path / "m.cellcount"
    path.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="plain JSON"):
        write_model.write_model(path, {"trained": {}}, {"mae": float("nan")})
    with pytest.raises(ValueError, match="slash"):
        write_model.write_model(path, {"trained": {"a/b": np.zeros(1)}}, {})
    with pytest.raises(ValueError, match=r"ends in \.cellcount"):
        write_model.write_model(tmp_path / "m.bin", {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["m.cellcount"]
    assert path.read_bytes() == file.read_bytes()


def test_the_command(run, tmp_path, capsys):
    target = tmp_path / "m.cellcount"
    assert main.main(["export", str(run), str(target), "--half"]) == 0
    assert "weights stored with 16 bits" in capsys.readouterr().out
    assert main.main(["export", str(run), str(target), "--stage", "absent"]) == 1
    assert "no finished stage 'absent'" in capsys.readouterr().err
    assert main.main(["export", str(tmp_path), str(target)]) == 1
    assert "no finished training" in capsys.readouterr().err
    assert Counter.load(target).stage.name == "density"


def test_a_tiny_run_of_two_stages_is_exported(tmp_path):
    config = dcl_vgg.get_config("tiny")
    config.model.width = 1 / 16
    counter = made("dcl")
    facts = facts_of(counter, "dcl", config) | {"stages": ["counter", "localizer"]}
    target = tmp_path / "m.cellcount"
    write_model.write_model(target, counter.variables._asdict(), facts)
    loaded = Counter.load(target)
    assert loaded.stage.name == "localizer"
    assert loaded.stage.window == facts["window"]
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(counter.variables)


def test_half_of_a_stablehlo_network_is_refused(run, tmp_path, capsys):
    command = ["export", str(run), str(tmp_path / "net"), "--format", "stablehlo", "--half"]
    assert main.main(command) == 1
    assert "StableHLO keeps 32 bits" in capsys.readouterr().err
