"""One data mesh over all devices; a jit in global view does the rest.

Batches are split along their first axis, everything else is replicated. Because the jitted step
sees the whole batch, means, gradients and batch norm are those of the whole batch on any number of
devices: batch norm is synchronised.
"""

import os
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """A mesh of all devices along the axis `data`."""
    # Explicit axes, the default, do not go with linen's modules.
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: splits the first axis of every array over the mesh, where it divides."""

    def constrain(x: jax.Array) -> jax.Array:
        rows = "data" if x.ndim and x.shape[0] % mesh.size == 0 else None
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(rows)))

    return jax.tree.map(constrain, tree)


def describe_device() -> str:
    """Kind and number of devices, for results and logs."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"CPU, {os.cpu_count()} cores"
    return f"{jax.device_count()} x {device.device_kind}"
