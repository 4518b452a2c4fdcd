import sys

import numpy as np

from cellcount_jax.cli import main
from cellcount_jax.io.annotations.dots import write_dots
from cellcount_jax.simulation.simulate import write_simulated


def test_without_napari_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "napari", None)
    for name in [n for n in sys.modules if n.startswith("cellcount_jax.napari")]:
        monkeypatch.delitem(sys.modules, name)
    assert main.main(["annotate", str(tmp_path)]) == 1
    assert "pip install '.[napari]'" in capsys.readouterr().err


def test_agreement_of_two_observers(tmp_path, capsys):
    write_simulated(tmp_path, 2, seed=1, shape=(64, 64), count=8)
    place = tmp_path / "observers" / "ann" / "dots"
    place.mkdir(parents=True)
    for number in range(2):
        write_dots(place / f"sim_00000{number}.csv", np.array([[5.0, 5.0], [40.0, 40.0]]))
    assert main.main(["agreement", str(tmp_path)]) == 0
    assert "2 images, 16 and 4 dots" in capsys.readouterr().out
    page = (tmp_path / "annotation" / "agreement.html").read_text()
    assert "limits of agreement" in page


def test_agreement_needs_another_observer(tmp_path, capsys):
    write_simulated(tmp_path, 1, seed=1, shape=(64, 64), count=8)
    assert main.main(["agreement", str(tmp_path)]) == 1
    assert "observers" in capsys.readouterr().err
