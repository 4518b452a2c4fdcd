"""The `cellcount` commands, called as a user would."""

import csv
import json
import re
import shlex

import numpy as np
import pytest
import tifffile
from PIL import Image

import cellcount_jax
from cellcount_jax.cli import main
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.reporting.verdict import meaning
from cellcount_jax.simulation import simulate

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with six small annotated images."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "images").mkdir()
    (folder / "dots").mkdir()
    for i, sample in enumerate(simulate.simulate_dataset(0, 6, (48, 64), "vgg")):
        Image.fromarray(sample.image).save(folder / "images" / f"field{i}.png")
        dots = Dots(sample.dots, None, None)
        write_dots(folder / "dots" / f"field{i}.csv", dots, format="napari")
    return folder


@pytest.fixture(scope="module")
def model(lab):
    assert main.main(["train", str(lab), "--steps", "40"]) == 0
    return lab / "cellcount"


def test_train_logs_the_inferred_settings_and_writes_a_report(lab, model, capsys):
    results = json.loads((model / "results.json").read_text())
    assert results["split"] == "train"  # too few images for other splits
    page = (model / "report.html").read_text()
    assert "<h2>In short</h2>" in page
    assert [key for key in results if not meaning(key)] == []
    assert "mean absolute error" in page
    assert main.main(["train", str(lab), "--steps", "40"]) == 0
    captured = capsys.readouterr()
    assert "finished before" in captured.err
    assert "inferred: sigma" in captured.err
    assert "cellcount predict" in captured.out


def test_predict_writes_a_row_per_image_and_continues_after_one_that_fails(
    lab, model, tmp_path, capsys
):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(tmp_path / "field0.tif")
    out = tmp_path / "out"
    command = [
        "predict",
        str(lab / "images"),
        str(tmp_path / "bad.png"),
        str(tmp_path / "field0.tif"),
    ]
    code = main.main([*command, "--model", str(model), "-o", str(out), "--overlays"])
    assert code == 3
    with (out / "counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    status = {row["image"].rpartition("/")[2]: row["status"] for row in rows}
    assert status["bad.png"].startswith("error: ")
    assert [s for name, s in status.items() if name != "bad.png"] == ["ok"] * 7
    for row in rows:
        if row["status"] == "ok":
            assert float(row["count"]) == pytest.approx(float(row["density_sum"]), abs=0.01)
    names = sorted(p.name for p in (out / "points").iterdir())
    assert names[:2] == ["field0.png.csv", "field0.tif.csv"]
    assert len(list((out / "overlays").glob("*.png"))) == 7
    said = capsys.readouterr().out
    assert "7 of 8 images counted" in said
    assert "1 failed; see the status column" in said


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["train", "/absent/folder"], "error: /absent/folder: no such folder"),
        (["data", "check", "vgg"], "error: no dataset 'vgg'"),
        (["dots", "check", "somewhere.csv"], "name its image with --image"),
        (["predict", "x.png", "--model", "/absent", "-o", "out"], "no finished training here"),
    ],
)
def test_user_errors_are_one_line_and_exit_status_1(command, line, capsys):
    assert main.main(command) == 1
    error = capsys.readouterr().err
    assert line in error
    assert len(error.strip().splitlines()) == 1


def test_dots_of_another_image_are_named(tmp_path, capsys):
    assert (
        main.main(["simulate", str(tmp_path), "-n", "12", "--shape", "160", "160", "--count", "40"])
        == 0
    )
    files = sorted((tmp_path / "dots").iterdir())
    first, *others = (file.read_bytes() for file in files[:3])
    for file, content in zip(files[:3], [*others, first], strict=True):
        file.write_bytes(content)
    capsys.readouterr()
    assert main.main(["dots", "check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "12 files of dots checked, 3 remarks"
    images = sorted((tmp_path / "images").iterdir())[:3]
    for image, line in zip(images, lines[:3], strict=True):
        assert line.startswith(f"{image}: its dots lie no more on cells")
    assert f"(they would fit {images[1]})" in lines[0]


def test_propose_then_check_then_convert(tmp_path, capsys):
    assert (
        main.main(["simulate", str(tmp_path), "-n", "2", "--shape", "64", "80", "--seed", "3"]) == 0
    )
    for path in (tmp_path / "dots").iterdir():
        path.unlink()
    assert main.main(["propose", str(tmp_path)]) == 0
    written = sorted((tmp_path / "dots").iterdir())
    assert len(written) == 2
    assert main.main(["dots", "check", str(tmp_path)]) == 0
    target = tmp_path / "a.geojson"
    assert main.main(["dots", "convert", str(written[0]), str(target)]) == 0
    assert json.loads(target.read_text())["type"] == "FeatureCollection"
    assert "2 files of dots checked, 0 remarks" in capsys.readouterr().out


def test_check_reports_swapped_dots(tmp_path, capsys):
    Image.fromarray(np.zeros((40, 200), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.csv").write_text("y,x\n150,20\n160,30\n20,10\n")
    (tmp_path / "0.png").write_bytes(b"no image")
    (tmp_path / "0.csv").write_text("y,x\n1,2\n")
    assert main.main(["dots", "check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "swap" in out
    assert "0.png: " in out  # and the other one was checked


def test_data_list_names_every_set(capsys):
    assert main.main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert [name for name in BENCHMARKS if name not in out] == []


def test_version_help_and_a_mistyped_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"cellcount_jax {cellcount_jax.__version__}\n"
    assert main.main([]) == 2
    assert "predict" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main.main(["predcit", "a.png"])
    assert ended.value.code == 2
    assert "no command 'predcit'; did you mean predict?" in capsys.readouterr().err


COMMANDS = (
    *("train", "predict", "merge", "evaluate", "explain", "export", "annotate", "agreement"),
    *("propose", "data", "data list", "data check", "dots", "dots check", "dots convert"),
    *("simulate", "survey"),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses_and_names_the_files(command, capsys):
    with pytest.raises(SystemExit):
        main.main([*command.split(), "-h"])
    text = capsys.readouterr().out
    example, _, end = text.rpartition("example:")[2].partition("\n\n")
    assert re.search("files that it writes:\n  \\w|It writes no files", end)
    parser, names = main._parser()
    options = parser.parse_args(shlex.split(example)[1:])
    assert options.run
    assert {name.split()[0] for name in COMMANDS} == set(names)


def test_v_before_and_after_a_command_is_verbose_and_nothing_else(capsys):
    parser, _ = main._parser()
    for given in ("-v dots check a", "dots -v check a", "dots check -v a", "dots check a -v"):
        assert parser.parse_args(given.split()).verbose, given
    assert parser.parse_args(["predict", "a", "-v", "--out", "b"]).verbose
    assert not parser.parse_args(["dots", "check", "a"]).verbose
    options = parser.parse_args(["predict", "a", "--voxel-size", "2", "0.5", "0.5"])
    assert (options.voxel_size, options.verbose) == ([2.0, 0.5, 0.5], False)


def test_what_train_and_predict_write_is_what_their_help_names(lab, model, tmp_path, capsys):
    out = tmp_path / "out"
    image = str(lab / "images" / "field0.png")
    options = ["--overlays", "--density", "--model", str(model), "-o", str(out)]
    assert main.main(["predict", image, *options]) == 0
    for command, folder in (("predict", out), ("train", model)):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main.main([command, "-h"])
        text = capsys.readouterr().out
        for path in folder.iterdir():
            assert path.name.startswith(".") or f"OUT/{path.name}" in text, path


def test_commands_on_folders_take_a_scene_and_a_time_point(tmp_path, capsys):
    assert main.main(["simulate", str(tmp_path), "-n", "2", "--shape", "64", "80"]) == 0
    frames = []
    for path in sorted((tmp_path / "images").iterdir()):
        frames.append(np.asarray(Image.open(path)).max(axis=-1))
        path.unlink()
    kept, *_ = sorted((tmp_path / "dots").iterdir())
    for path in sorted((tmp_path / "dots").iterdir())[1:]:
        path.unlink()
    target = tmp_path / "images" / f"{kept.stem}.tif"
    tifffile.imwrite(target, np.stack(frames[::-1]), imagej=True, metadata={"axes": "TYX"})
    folder = str(tmp_path)
    evaluate = ["evaluate", folder, "--model", "nuclei", "-o", str(tmp_path / "out")]
    for command, code in ((["dots", "check", folder], 1), (evaluate, 1)):
        assert main.main(command) == code
        said = capsys.readouterr()
        assert "2 time points" in said.out + said.err
        assert "--time" in said.out + said.err
        assert main.main([*command, "--time", "1"]) == 0
    assert main.main(["propose", folder, "--overwrite", "--time", "0"]) == 0
    assert main.main(["propose", folder, "--overwrite"]) == 3
