"""One data mesh over all devices, for a jit in global view.

Batches are split along their first axis, everything else is replicated. Because the jitted step
sees the whole batch, means, gradients and batch norm are those of the whole batch on any number of
devices: batch norm is synchronised.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def data_mesh() -> Mesh:
    """A mesh of all devices along the axis `data`."""
    return mesh_of(jax.devices())


def local_mesh() -> Mesh:
    """A mesh of this host's devices, along the axis `data`."""
    return mesh_of(jax.local_devices())


def mesh_of(devices: Any) -> Mesh:
    """A mesh of these devices, which need not exist on this machine, along the axis `data`."""
    devices = np.asarray(devices).reshape(-1)
    # Explicit axes, the default, do not work with linen's modules.
    return jax.make_mesh((devices.size,), ("data",), (AxisType.Auto,), devices=devices.tolist())


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis, which the mesh divides, split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def rows_over(mesh: Mesh, n: int) -> NamedSharding:
    """Sharding of n rows: split over the mesh, or replicated if they do not divide."""
    return split(mesh) if n and n % mesh.size == 0 else replicated(mesh)


def split_rows(tree: Any, mesh: Mesh) -> Any:
    """Inside jit: splits the first axis of every array over the mesh, if it divides."""

    def constrain(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, rows_over(mesh, x.shape[0] if x.ndim else 0))

    return jax.tree.map(constrain, tree)


def split_parts(tree: Any, mesh: Mesh, parts: int) -> Any:
    """Inside jit: rows [B, ...] as [parts, B / parts, ...], each part split over the mesh.

    Part p has the rows p, p + parts, p + 2 parts ..., so that no row changes its device.
    """

    def divide(x: jax.Array) -> jax.Array:
        divided = x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)
        rows = PartitionSpec(None, *rows_over(mesh, divided.shape[1]).spec)
        return jax.lax.with_sharding_constraint(divided, NamedSharding(mesh, rows))

    return jax.tree.map(divide, tree)


def on_this_host(predict: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A jitted function of replicated variables and rows, run on the devices of this host.

    Each host may then call it any number of times, with its own rows.

    Args:
      predict: (variables, rows [B, ...] on the host) -> arrays [B, ...].
    """
    if jax.device_count() == 1:
        return predict
    mesh = local_mesh()
    local = functools.partial(_local_copy, layout=replicated(mesh))

    def run(variables: Any, rows: Any) -> Any:
        placed = jax.device_put(rows, rows_over(mesh, len(rows)))
        return predict(jax.tree.map(local, variables), placed)

    return run


def _local_copy(x: Any, layout: NamedSharding) -> jax.Array:
    """A replicated array as one on this host's devices, without a copy if it is there already."""
    here = {s.device: s.data for s in x.addressable_shards} if isinstance(x, jax.Array) else {}
    if here.keys() != layout.device_set:
        return jax.device_put(np.asarray(x), layout)
    parts = [here[device] for device in layout.mesh.devices.flat]
    return jax.make_array_from_single_device_arrays(x.shape, layout, parts)


def describe_device() -> str:
    """Kind and number of devices, for results and logs."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"CPU, {os.cpu_count()} cores"
    return f"{jax.device_count()} x {device.device_kind}"
