"""The command for a borrowed accelerator: order, limits, and what each part calls."""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import prepare
from benchmarks.gpu.parts import PARTS, Part
from benchmarks.read_config import read_config
from cellcount_jax.models.pretrained import OXFORD_FILE


class Script(Part):
    """A part that runs some Python."""

    def command(self, runs: Path, *, tiny: bool = False) -> list[str]:
        return [sys.executable, "-c", str(self.config)]


def run(parts, tmp_path, seconds=60.0) -> tuple[int, dict[str, dict]]:
    options = argparse.Namespace(out=tmp_path / "out", runs=tmp_path / "runs", tiny=False, lanes=2)
    for folder in (options.out, options.runs):
        folder.mkdir()
    failed = gpu.run_all(parts, options, time.monotonic() + seconds)
    lines = (options.out / "gpu.jsonl").read_text().splitlines()
    return failed, {line["part"]: line for line in map(json.loads, lines)}


def test_parts_are_written_down_as_they_end(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path))
    result = tmp_path / "runs/good"
    write = f"import os; os.makedirs({str(result)!r}); "
    write += f"open({str(result / 'results.json')!r}, 'w').write('{{\"mae\": 2.5}}')"
    parts = [
        Script("good", write, weights=False),
        Script("bad", "raise SystemExit('no luck')", weights=False),
        Script("later", "print(1)", weights=False, after="bad"),
        Script("absent", "print(1)", data="no_such_set", weights=False),
        Script("weightless", "print(1)"),
    ]
    failed, found = run(parts, tmp_path)
    assert failed == 1
    assert {name: line["status"] for name, line in found.items()} == {
        "good": "done",
        "bad": "failed",
        "later": "done",
        "absent": "left out: no no_such_set",
        "weightless": f"left out: no {OXFORD_FILE}",
    }
    assert found["good"]["figures"] == {"mae": 2.5}
    assert "no luck" in found["bad"]["log"]
    with zipfile.ZipFile(tmp_path / "out/gpu.zip") as archive:
        assert archive.namelist() == ["good/results.json"]


def test_everything_is_stopped_at_the_limit(tmp_path):
    parts = [
        Script("endless", "import time; time.sleep(600)", weights=False, alone=True),
        Script("never", "print(1)", weights=False),
    ]
    started = time.monotonic()
    _, found = run(parts, tmp_path, seconds=0.5)
    assert found["endless"]["status"] == "stopped"
    assert found["never"]["status"].startswith("not started")
    assert time.monotonic() - started < 60


def test_two_run_at_a_time_in_the_listed_order():
    speed, a, b, c = (Part(n, alone=n == "speed", after="a" if n == "b" else None) for n in
                      ("speed", "a", "b", "c"))  # fmt: skip
    assert gpu.next_part([speed, a], [], lanes=2) is speed
    assert gpu.next_part([a, b], [speed], lanes=2) is None
    assert gpu.next_part([a, b, c], [], lanes=2) is a
    assert gpu.next_part([b, c], [a], lanes=2) is c  # b waits for a
    assert gpu.next_part([b], [a, c], lanes=2) is None
    assert gpu.next_part([b], [c], lanes=2) is b


@pytest.mark.parametrize("tiny", [False, True])
def test_every_part_names_a_config_and_fields_that_exist(tiny):
    names = [part.name for part in PARTS]
    assert names[0] == "speed"
    assert len(set(names)) == len(names)
    for part in PARTS:
        assert part.after is None or names.index(part.after) < names.index(part.name)
        if part.config is None:
            continue
        flags = part.command(Path("runs"), tiny=tiny)[3:]
        config = next(f for f in flags if f.startswith("--config=")).removeprefix("--config=")
        fields = [f.removeprefix("--config.") for f in flags if f.startswith("--config.")]
        read_config(config, fields)
        assert ("tiny" in config) == tiny


def test_the_folder_is_excluded_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare.exclude(Path(".gpu"))  # no repository: nothing to do
    (tmp_path / ".git/info").mkdir(parents=True)
    (tmp_path / ".git/HEAD").write_text("ref: refs/heads/main\n")
    for name in ("objects", "refs"):
        (tmp_path / ".git" / name).mkdir()
    for _ in range(2):
        prepare.exclude(Path(".gpu"))
    assert (tmp_path / ".git/info/exclude").read_text().splitlines() == ["/.gpu/"]


def test_wheels_lose_the_definitions_of_data_sets(tmp_path):
    wheel = tmp_path / "tensorflow_datasets-4-py3-none-any.whl"
    kept, record = "tensorflow_datasets/core/a.py", "tensorflow_datasets-4.dist-info/RECORD"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(kept, "1")
        archive.writestr("tensorflow_datasets/text/b.py", "2")
        archive.writestr(record, f"{kept},,\ntensorflow_datasets/text/b.py,,\n{record},,\n")
    prepare.without_definitions(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist() == [kept, record]
        assert archive.read(record).decode().splitlines() == [f"{kept},,", f"{record},,"]
    assert list(tmp_path.iterdir()) == [wheel]
