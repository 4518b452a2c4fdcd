"""One row per network: published size where there is one, output shape, float32 and bfloat16."""

import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import cellcount_jax.models
from cellcount_jax.methods import dcl
from cellcount_jax.models.attention import SelfAttention
from cellcount_jax.models.conv.conv2d import Conv2D
from cellcount_jax.models.conv.conv3d import Conv3D
from cellcount_jax.models.csrnet import CSRNet
from cellcount_jax.models.layers import InstanceNorm, UpConv2x
from cellcount_jax.models.message_passing import GlobalMessagePassing
from cellcount_jax.models.prototypes import PrototypeHead
from cellcount_jax.models.prototypes.head import DensityLayer
from cellcount_jax.models.sau_net import Block, SAUNet
from cellcount_jax.models.unet import UNet
from cellcount_jax.models.vgg import VGG

# network, input shape, parameters (trained; not batch statistics), output shape
ROWS = [
    (VGG(depth=19), (1, 256, 256, 3), 20_024_384, (1, 16, 16, 512)),
    (VGG(depth=16, n_convs=10), (1, 64, 64, 3), 7_635_264, (1, 8, 8, 512)),
    (dcl.DCLCounter(), (1, 256, 256, 3), 20_024_384 + 2 * (512 * 9 + 9) + 513, (1, 32, 32)),
    (GlobalMessagePassing(n_samples=9), (1, 8, 8, 16), 2 * (16 * 9 + 9), (1, 8, 8, 16)),
    (CSRNet(), (1, 256, 256, 3), 16_263_489, (1, 32, 32)),
    (PrototypeHead(n_prototypes=6), (1, 32, 32, 64), 4_160 + 384 + 4, (1, 32, 32)),
    (SAUNet(ndim=2), (1, 64, 64, 3), 2_192_289, (1, 64, 64)),
    (SAUNet(ndim=3), (1, 16, 32, 32, 1), 5_866_657, (1, 16, 32, 32)),
    (UNet(), (1, 64, 64, 4), None, (1, 64, 64)),
    (UNet(channels=(8, 16, 32, 64)), (1, 64, 64, 3), None, (1, 64, 64)),
]
PARTS = {SelfAttention, Block, Conv2D, Conv3D, DensityLayer, UpConv2x, InstanceNorm}
"""Modules that stand in a network of the table and have tests of their own."""


def output_shape(output) -> tuple[int, ...]:
    return (output["density"] if isinstance(output, dict) else output).shape


def name(row) -> str:
    return f"{type(row[0]).__name__}-{'x'.join(map(str, row[1]))}"


@pytest.mark.parametrize("row", ROWS, ids=name)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_parameters_and_shapes(row, dtype):
    network, shape, parameters, expected = row
    if "dtype" in type(network).__annotations__:
        network = network.clone(dtype=dtype)
    elif dtype != jnp.float32:
        pytest.skip("computes in float32 always")
    x = jnp.zeros(shape)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), x))
    leaves = jax.tree.leaves(variables["params"])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    if parameters is not None:
        assert sum(leaf.size for leaf in leaves) == parameters
    output = jax.eval_shape(lambda v: network.apply(v, x), variables)
    assert output_shape(output) == expected


def test_every_network_has_a_row():
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(cellcount_jax.models.__path__, "cellcount_jax.models.")
    ]
    networks = {
        cls
        for module in modules
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, nn.Module) and cls.__module__.startswith("cellcount_jax.models.")
    }
    assert {type(row[0]) for row in ROWS} | PARTS >= {c for c in networks if _is_public(c)}


def _is_public(cls: type) -> bool:
    return not cls.__name__.startswith("_")
