"""SAU-Net trained on whole maps and nothing else, as a stage: the network's own speed."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from cellcount_jax import losses
from cellcount_jax.methods.base import LossResult, Readout, Stage, StepInput, Tree, Variables
from cellcount_jax.models.sau_net import SAUNet


def supervised(network: SAUNet) -> Stage:
    """Mean squared error of the network's map; dropout is on in training."""
    stride = 2 ** (network.levels - 1)

    def init(key: jax.Array, batch: Any, previous: Mapping[str, Variables]) -> Variables:
        del previous
        shape = (1, *(stride,) * network.ndim, batch["labelled"]["image"].shape[-1])
        return Variables(jax.jit(network.init)(key, jnp.zeros(shape))["params"], {}, {}, {})

    def loss(trained: Tree, inputs: StepInput) -> LossResult:
        rows = inputs.batch["labelled"]
        output: Any = network.apply(
            {"params": trained}, rows["image"], train=True, rngs={"dropout": inputs.key}
        )
        value = losses.density_mse(output, rows["target"], mask=rows["mask"])
        return value, (inputs.model_state, {"loss": value})

    def predict(variables: Variables, images: jax.Array) -> dict[str, Any]:
        return {"density": network.apply({"params": variables.trained}, images)}

    return Stage(
        name="supervised",
        init=init,
        loss=loss,
        predict=predict,
        readout=Readout(count_map="density"),
        stride=stride,
    )
