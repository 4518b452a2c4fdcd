"""Exports a counter's network, with its weights, as StableHLO for programs without this package.

`jax.export` keeps old files readable by newer versions of JAX; the module in it is plain StableHLO,
which other compilers take. Batch and, where the network allows it, size are symbolic.
"""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cellcount_jax.inference.batched_predict import fixed_window
from cellcount_jax.inference.counter import Counter
from cellcount_jax.runtime.replace_file import write_file

log = logging.getLogger(__name__)

PLATFORMS = ("cpu", "cuda", "tpu")

MODEL, READOUT, README = "model.stablehlo", "readout.json", "README.md"


class StableHLOError(ValueError):
    """A network cannot be exported; one line says why."""


def write(
    counter: Counter, folder: Path, *, platforms: Sequence[str] = PLATFORMS
) -> dict[str, Any]:
    """Writes `model.stablehlo`, `readout.json` and `README.md` into a folder.

    Args:
      counter: Trained counter.
      folder: Output folder, created if missing.
      platforms: Platforms to compile the module for.

    Returns:
      The content of `readout.json`.

    Raises:
      StableHLOError: The package flatbuffers, which jax writes with, is missing.
    """
    exported = to_exported(counter, platforms=platforms)
    facts, network = describe(counter, exported), serialize(exported)
    if facts["window"] is not None:
        sides = " x ".join(map(str, facts["window"]))
        log.info("%s looks at a window as a whole: its size is fixed at %s", facts["stage"], sides)
    write_file(folder / MODEL, network)
    write_file(folder / READOUT, json.dumps(facts, indent=2) + "\n")
    write_file(folder / README, readme(facts))
    return facts


def describe(counter: Counter, exported: export.Exported) -> dict[str, Any]:
    """What a user of the network needs to know, as plain JSON."""
    stage = counter.stage
    return {
        "input": str(exported.in_avals[0]),
        "outputs": _outputs(exported),
        "platforms": list(exported.platforms),
        "stride": stage.stride,
        "halo": stage.halo,
        "window": fixed_window(stage, space_axes(counter)),
        "resampling": counter.resampling.to_dict(),
        "preprocessing": counter.preprocessing.to_dict(),
        "readout": dataclasses.asdict(stage.readout),
        "method": counter.facts.get("method"),
        "stage": stage.name,
        "training": counter.facts.get("training"),
        "jax": jax.__version__,
    }


def to_exported(counter: Counter, *, platforms: Sequence[str] = PLATFORMS) -> export.Exported:
    """The network as a function of images [B, *space, C] alone.

    B is symbolic. So is the size, in multiples of the stride, unless the network has global
    operations: then it is that of its fixed window.
    """
    stage, ndim = counter.stage, space_axes(counter)
    window = fixed_window(stage, ndim)
    names = ("d", "h", "w")[3 - ndim :]
    sides = [f"{stage.stride}*{name}" for name in names] if window is None else map(str, window)
    shape = export.symbolic_shape(f"b, {', '.join(sides)}, {counter.preprocessing.channels}")
    variables = jax.tree.map(np.asarray, counter.variables)

    @jax.jit
    def network(images: jax.Array) -> dict[str, jax.Array]:
        return stage.predict(variables, images)

    return export.export(network, platforms=platforms)(jax.ShapeDtypeStruct(shape, jnp.float32))


def serialize(exported: export.Exported) -> bytes:
    """Bytes of the exported function.

    Raises:
      StableHLOError: The package flatbuffers is missing.
    """
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise StableHLOError(
            "jax writes StableHLO files with the package flatbuffers, which is not installed; "
            "install it with: pip install flatbuffers"
        ) from error


def space_axes(counter: Counter) -> int:
    """Number of space axes, 2 or 3, of the images that a network takes: that of its kernels."""
    leaves = jax.tree.leaves(counter.variables.trained)
    return max([2, *(np.ndim(leaf) - 2 for leaf in leaves)])


def _outputs(exported: export.Exported) -> dict[str, str]:
    shapes = [str(aval) for aval in exported.out_avals]
    return dict(jax.tree.unflatten(exported.out_tree, shapes))


_README = """# A cell counter as StableHLO

- `{model}`: the network with its weights, written by `jax.export` (jax {jax}) for {platforms}.
  Input `{input}`; outputs {outputs}.
- `{readout_file}`: how pixels become its input, and its maps a count and points.

## Call it

    import json
    import numpy as np
    from jax import export

    model = export.deserialize(open("{model}", "rb").read())
    images = np.zeros({example}, np.float32)
    maps = model.call(images)

This needs `pip install jax flatbuffers numpy`, not the package that trained it. Other compilers
take the module itself, `model.mlir_module_serialized` (portable StableHLO bytes).

## Before it

Resize the image by `resampling.factor`{resize}. Map intensities to 0 and 1 as
`preprocessing.normalise` says: `dtype` divides integers by the largest number of their type;
`percentile` maps the percentiles `low` and `high` of the whole image, `minmax` its least and
greatest value, to 0 and 1, clipped to [-4, 5]. Then subtract `mean` and divide by `std`.

{size}

## After it

{count}
{points}"""


def readme(facts: dict[str, Any]) -> str:
    """How to call the network, for people."""
    readout, window, stride = facts["readout"], facts["window"], facts["stride"]
    channels = facts["preprocessing"]["channels"]
    ndim = facts["input"].count(",") - 1
    if window is None:
        sides = (8 * stride,) * ndim
        size = (
            f"Sides must be multiples of {stride}: mirror the image at its lower and right\n"
            f"edge and cut the maps. Tiles that overlap by {facts['halo']} pixels on each side\n"
            "give the same maps as the whole."
        )
    else:
        sides = window
        size = (
            "The network looks at a window as a whole, so its size is fixed: cut larger images\n"
            "into windows of that size and mirror smaller ones."
        )
    return _README.format(
        **{k: facts[k] for k in ("input", "jax")},
        model=MODEL,
        readout_file=READOUT,
        platforms=", ".join(facts["platforms"]),
        outputs=", ".join(f"`{name}` `{shape}`" for name, shape in facts["outputs"].items()),
        example=(1, *sides, channels),
        resize=_resize_text(facts["resampling"]),
        size=size,
        count=_count_text(readout),
        points=_points_text(readout),
    )


def _resize_text(resampling: dict[str, Any]) -> str:
    text = ""
    if resampling["patches"]:
        text = " and as the rule `resampling.patches` says (its tile to its resize)"
    if resampling["cell_diameter"]:
        text += f" so that cells are {resampling['cell_diameter']:g} pixels wide"
    if resampling["pixel_size"]:
        text += (
            ", or by its pixel size over `resampling.pixel_size` where that is known (micrometres)"
        )
    return text


def _count_text(readout: dict[str, Any]) -> str:
    if readout["count"] in ("peaks", "components"):
        return "The count is the number of points."
    value = "absolute values" if readout["count"] == "l1" else "values"
    return (
        f"The count is the sum of the {value} of `{readout['count_map']}`, divided by "
        f"{readout['count_scale']:.9g}."
    )


def _points_text(readout: dict[str, Any]) -> str:
    if readout["points_map"] is None:
        return "It gives no points.\n"
    if readout["decoder"] == "components":
        return (
            f"Points are the centroids of connected pixels of `{readout['points_map']}` above "
            f"{readout['threshold']:.6g}.\n"
        )
    height = readout["single_cell_peak"]
    level = (
        f"at least {readout['threshold'] * height:.6g} high"
        if height is not None
        else f"at least {readout['threshold']:.6g} of the map's largest value high"
    )
    return (
        f"Points are the local maxima of `{readout['points_map']}` over 3 pixels per axis, {level}."
        "\n"
    )
