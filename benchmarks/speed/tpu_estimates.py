"""Costs of the training steps on TPU pods, compiled ahead of time on this machine.

    pip install -e '.[tpu]'
    python -m benchmarks.speed.tpu_estimates  # the table of docs/devices.md
    python -m benchmarks.speed.tpu_estimates --cases dcl --topologies v5e:4x4

No TPU is needed: libtpu compiles for a given topology. Figures are the compiler's own, per chip:
floating-point operations, bytes read and written, memory, and bytes sent to the other chips in a
step. The estimated time of a step is the larger of operations and bytes over the chip's peak rates
and nothing else: a lower bound, not a measurement. Every chip has the same number of rows on either
topology. Message passing is compiled in both its forms.

Writes tpu_estimates.json and tpu_estimates.md.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.output import add_arguments, finish, markdown
from benchmarks.speed.compiler_figures import PEAK_BYTES, PEAK_FLOPS, estimate
from cellcount_jax import defaults
from cellcount_jax.data import batches
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Batch, Stage, Tree, Variables
from cellcount_jax.methods.countxplain import method
from cellcount_jax.models.message_passing import GlobalMessagePassing
from cellcount_jax.runtime import sharding
from cellcount_jax.training import optimizer
from cellcount_jax.training.step import create_state, make_step
from configs import countxplain_vgg, csrnet_vgg, dcl_vgg

TOPOLOGIES = ("v5e:4x4", "v5e:16x16")

MEMORY = 16 * 2**30
"""Bytes of a v5e chip's memory."""

SIDE = 256

ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several processes may compile at once
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked what machine this is
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Variables that libtpu needs before it is loaded on a machine without a TPU."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A training step to be compiled.

    Attributes:
      config: Config of the run.
      stage: Name of the stage.
      space: Sides of the images.
      rows: Rows of each stream on one chip.
      options: Options of `make_step`.
    """

    config: ConfigDict
    stage: str
    space: tuple[int, ...] = (SIDE, SIDE)
    rows: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"labelled": 4})
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def cases() -> dict[str, Case]:
    """The steps of the table: full networks in bfloat16."""
    found = {
        "DCL counter": Case(dcl_vgg.get_config(), "counter"),
        "CSRNet": Case(csrnet_vgg.get_config(), "csrnet"),
        "CountXplain stage 2": Case(countxplain_vgg.get_config(), method.NAME),
        "consistency 2-D": Case(
            defaults.consistency(ndim=2),
            "consistency",
            (224, 224),
            {"labelled": 1, "unlabelled": 10},
        ),
        "consistency 3-D": Case(
            defaults.consistency(ndim=3),
            "consistency",
            (48, 176, 176),  # the published (56, 200, 200) takes 16.5 GiB of a chip's 16
            {"labelled": 1, "unlabelled": 1},
            {"remat": "convolutions"},
        ),
    }
    for case in found.values():
        case.config.dtype = "bfloat16"
    return found


def mesh_of(topology: str) -> Mesh:
    """The chips of a topology such as v5e:4x4, which need not be here."""
    os.environ.update(ENVIRONMENT)
    jax.config.update("jax_platforms", "cpu")
    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return sharding.mesh_of(described.devices)


def compile_step(case: Case, mesh: Mesh) -> jax.stages.Compiled:
    """The training step as `training.trainer` runs it on streamed batches."""
    stages = {stage.name: stage for stage in build_stages(case.config)}
    stage, plan = stages[case.stage], case.config.stages[case.stage]
    batch = abstract_batch(case, stage, mesh.size)
    tx = optimizer.from_config(plan.optimizer, steps=1000, steps_per_epoch=100)
    variables = abstract_variables(case, stages)

    def sampler(given: Tree, step: jax.Array) -> Batch:
        changes = {name: plan[name] for name in ("flips", "contrast", "offset")}
        return batches.augment_batch(given, step, jax.random.key(0), **changes)

    state = jax.eval_shape(lambda v: create_state(v, tx, ema_decay=plan.ema_decay), variables)
    step = make_step(stage, tx, sampler, mesh, seed=0, ema_decay=plan.ema_decay, **case.options)
    everywhere = sharding.replicated(mesh)
    placed = _with_sharding((state, variables.frozen), lambda _: everywhere)
    rows = _with_sharding(batch, lambda x: sharding.rows_over(mesh, x.shape[0]))
    return step.lower(*placed, rows).compile()


def abstract_batch(case: Case, stage: Stage, chips: int) -> Tree:
    """Shapes of a batch for all chips."""
    channels = case.config.preprocessing.channels
    streams = {}
    for name, rows in case.rows.items():
        shapes = {"image": (*case.space, channels), "target": case.space}
        if name != "labelled":
            del shapes["target"]
        fields = shapes | dict.fromkeys(("count", "mask", "index"), ())
        streams[name] = {
            field: jax.ShapeDtypeStruct((rows * chips, *shape), jnp.float32)
            for field, shape in fields.items()
        }
    if stage.name == method.NAME:
        # Its rows are features, computed once, see `prepare` there.
        first = build_stages(case.config)[0]
        stored = (*(side // first.stride for side in case.space),)
        image = streams["labelled"]["image"].shape[0]
        width = max(1, round(64 * case.config.model.width))
        streams["labelled"]["image"] = jax.ShapeDtypeStruct(
            (image, *stored, width), jnp.dtype(case.config.dtype)
        )
        streams["labelled"]["target"] = jax.ShapeDtypeStruct((image, *stored), jnp.float32)
    return streams


def abstract_variables(case: Case, stages: Mapping[str, Stage]) -> Variables:
    """Shapes of the variables of the case's stage, those before it included."""
    images = dataclasses.replace(case, rows={"labelled": 1})
    found: dict[str, Variables] = {}
    for name, stage in stages.items():
        batch = abstract_batch(images, next(iter(stages.values())), 1)
        found[name] = jax.eval_shape(stage.init, jax.random.key(0), batch, found)
        if name == case.stage:
            break
    return found[case.stage]


def _with_sharding(tree: Tree, layout: Callable[[Any], Any]) -> Tree:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout(x)), tree)


def message_passing(formulation: str, mesh: Mesh, rows: int = 4) -> jax.stages.Compiled:
    """Global message passing of DCL at 256x256 with its gradient, in one of its two forms."""
    layer = GlobalMessagePassing(formulation=formulation)
    x = jax.ShapeDtypeStruct((rows * mesh.size, SIDE // 8, SIDE // 8, 512), jnp.bfloat16)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)

    def loss(params: Tree, x: jax.Array) -> jax.Array:
        return jnp.square(layer.apply(params, x).astype(jnp.float32)).mean()

    given = _with_sharding((params, x), lambda s: sharding.replicated(mesh))
    split = _with_sharding(x, lambda s: sharding.rows_over(mesh, s.shape[0]))
    return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(given[0], split).compile()


def timed(compile_one: Callable[[], jax.stages.Compiled]) -> dict[str, float]:
    """Estimate of a program, with the seconds it takes to compile here."""
    began = time.monotonic()
    compiled = compile_one()
    return {**estimate(compiled), "compile_seconds": time.monotonic() - began}


def table(results: Mapping[str, Any]) -> str:
    """Markdown."""
    about = (
        f"v5e, {MEMORY / 2**30:.0f} GiB, {PEAK_FLOPS / 1e12:.0f} TFLOP/s, {PEAK_BYTES / 1e9:.0f} "
        "GB/s a chip; bfloat16 with float32 parameters; all figures, rows too, per chip and "
        "step."
    )
    steps = [
        [
            row["name"],
            str(row["chips"]),
            " + ".join(str(n) for n in row["rows"].values()),
            f"{row['flops'] / 1e12:.3g}",
            f"{row['bytes'] / 1e9:.3g}",
            f"{row['memory'] / 2**30:.2f}",
            f"{row['collective_bytes'] / 1e6:.3g}",
            f"{row['seconds'] * 1e3:.3g}",
        ]
        for row in results["steps"]
    ]
    forms = [
        [
            row["name"],
            f"{row['flops'] / 1e9:.3g}",
            f"{row['bytes'] / 1e9:.3g}",
            *(str(row[key]) for key in ("gathers", "scatters", "loops")),
            f"{row['seconds'] * 1e3:.3g}",
        ]
        for row in results["message_passing"]
    ]
    held = ["TFLOP", "GB moved", "GiB held", "MB all-reduced", "ms at least"]
    operations = ["GFLOP", "GB moved", "gathers", "scatters", "loops", "ms at least"]
    parts = (
        about,
        markdown(["step", "chips", "rows", *held], steps),
        "Global message passing with its gradient, 4 grids of 32x32 with 512 channels per chip:",
        markdown(["form", *operations], forms),
    )
    return "\n\n".join(parts) + "\n"


def measure(names: list[str], topology_names: list[str]) -> dict[str, Any]:
    """Compiles all that is asked for, one program at a time."""
    steps, forms = [], []
    for topology in topology_names:
        mesh = mesh_of(topology)
        for name in names:
            case = cases()[name]
            found = timed(lambda case=case, mesh=mesh: compile_step(case, mesh))
            row = {"name": name, "chips": mesh.size, "rows": dict(case.rows), **found}
            steps.append(row)
            print(json.dumps(row), flush=True)
    mesh = mesh_of(topology_names[0])
    for form in ("matmul", "gather"):
        forms.append({"name": form, **timed(lambda form=form: message_passing(form, mesh))})
        print(json.dumps(forms[-1]), flush=True)
    return {"steps": steps, "message_passing": forms}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--cases", nargs="+", default=list(cases()), choices=list(cases()))
    parser.add_argument("--topologies", nargs="+", default=list(TOPOLOGIES))
    options = parser.parse_args()
    versions = {p: importlib.metadata.version(p) for p in ("jax", "libtpu")}
    results = {"versions": versions, **measure(options.cases, options.topologies)}
    finish(options, "tpu_estimates", results, table(results))


if __name__ == "__main__":
    main()
