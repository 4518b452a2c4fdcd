"""Training steps compiled for TPU pods on this machine, and their figures."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cellcount_jax
from benchmarks.speed import compiler_figures, tpu_estimates

ROOT = Path(cellcount_jax.__file__).parent.parent

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)


def compiled(work: str) -> dict:
    """What a few lines print as JSON, in a process of its own: libtpu stays out of this one."""
    program = f"import json\nfrom benchmarks.speed import tpu_estimates as t\n{work}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


HLO = """
  %all-reduce.1 = (f32[3]{0:T(128)}, bf16[2,4]{1,0}) all-reduce(%a, %b), channel_id=1
  %s = f32[8]{0} all-reduce-start(%c), channel_id=2
  %d = f32[8]{0} all-reduce-done(%s)
  %p = (f32[2]{0}, s32[]) while(%t), condition=%x, body=%y
  %g = f32[2]{0} gather(%t, %u), offset_dims={}
  %e = pred[] compare(%t, %u), direction=LT
"""


def test_collectives_are_counted_once():
    assert compiler_figures.collective_bytes(HLO) == 3 * 4 + 8 * 2 + 8 * 4
    assert [compiler_figures.count_of(HLO, o) for o in ("while", "gather", "scatter")] == [1, 1, 0]


@needs_libtpu
def test_the_prototype_step_fits_a_pod_and_all_chips_share_its_gradient():
    found = compiled(
        "case = t.cases()['CountXplain stage 2']\n"
        "print(json.dumps(t.estimate(t.compile_step(case, t.mesh_of('v5e:4x4')))))"
    )
    assert found["memory"] < tpu_estimates.MEMORY / 100
    assert found["flops"] > 1e7
    assert 64 * 64 * 4 < found["collective_bytes"] < 2 * 64 * 64 * 4
    assert found["loops"] == 0


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("topology", tpu_estimates.TOPOLOGIES)
@pytest.mark.parametrize("name", tpu_estimates.cases())
def test_full_steps_fit_the_memory_of_a_pod(name, topology):
    found = compiled(
        f"case = t.cases()[{name!r}]\n"
        f"print(json.dumps(t.estimate(t.compile_step(case, t.mesh_of({topology!r})))))"
    )
    assert found["memory"] < tpu_estimates.MEMORY
    assert found["flops"] > 1e7
    assert found["collective_bytes"] > 0
    if name == "DCL counter":
        assert found["loops"] == found["gathers"] == found["scatters"] == 0


@needs_libtpu
@pytest.mark.slow
def test_message_passing_is_neither_scatter_nor_gather_nor_loop():
    found = compiled(
        "mesh = t.mesh_of('v5e:4x4')\n"
        "print(json.dumps({f: t.estimate(t.message_passing(f, mesh))"
        " for f in ('auto', 'matmul', 'gather')}))"
    )
    assert found["auto"] == found["matmul"]
    for operation in ("loops", "gathers", "scatters"):
        assert found["auto"][operation] == 0
    assert found["gather"]["gathers"] + found["gather"]["loops"] > 0


@needs_libtpu
@pytest.mark.slow
def test_recomputing_lowers_the_work_space():
    found = compiled(
        "import dataclasses\n"
        "from configs import dcl_vgg\n"
        "config = dcl_vgg.get_config('quick')\n"
        "case = t.Case(config, 'counter', (128, 128), {'labelled': 8})\n"
        "mesh = t.mesh_of('v5e:2x2')\n"
        "print(json.dumps({remat: t.estimate(t.compile_step(\n"
        "    dataclasses.replace(case, options={'remat': remat}), mesh))\n"
        "    for remat in ('none', 'convolutions', 'pools')}))"
    )
    space = {remat: figures["work_space"] for remat, figures in found.items()}
    assert space["convolutions"] < 0.8 * space["none"]
    assert space["pools"] < 0.8 * space["none"]
    assert found["convolutions"]["flops"] < 1.05 * found["none"]["flops"]
