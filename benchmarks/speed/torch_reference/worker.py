"""A process that holds one network and answers requests, one line of JSON each.

    python -m benchmarks.speed.torch_reference.worker  # started by against_torch

A request is `{"do": NAME, ...}`; the answer is one line, `{"error": ...}` if it failed. Arrays
travel in .npz files. Everything else that is printed goes to the standard error.
"""

import gc
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.torch_reference import networks, variants
from benchmarks.speed.torch_reference.variants import VARIANTS, Run

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

SHORT = 0.1
"""Seconds for which a variant runs, at least, each time it is tried."""


class Worker:
    """Holds what was loaded last, and the run that was chosen last."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.chosen: Run | None = None

    def describe(self) -> dict[str, Any]:
        """Versions, device and threads."""
        on_cpu = DEVICE.type == "cpu"
        return {
            "torch": torch.__version__,
            "device": "CPU" if on_cpu else torch.cuda.get_device_name(),
            "threads": torch.get_num_threads(),
        }

    def load(self, **request: Any) -> dict[str, Any]:
        """Keeps a network's name, options, parameters, images and batch, from a file."""
        self.chosen = None
        self.request = request
        with np.load(request["path"]) as arrays:
            self.arrays = dict(arrays)
        return {}

    def outputs(self, path: str, variant: str = "eager") -> dict[str, Any]:
        """Writes the maps of the images, channels last, in full float32 precision."""
        _full_precision(True)
        run = variants.prediction(
            self._module(), self._given("images")["image"], VARIANTS[variant], "float32"
        )
        maps: Any = run()
        dimensions = self.arrays["images/image"].ndim
        found = {name: value.cpu().numpy() for name, value in maps.items()}
        moved = {k: np.moveaxis(v, 1, -1) if v.ndim == dimensions else v for k, v in found.items()}
        np.savez(path, **moved)
        return {}

    def first_step(self) -> dict[str, Any]:
        """Loss and the norm of its gradient at the loaded parameters, in full precision."""
        _full_precision(True)
        network = networks.NETWORKS[self.request["network"]]
        trained = network.trained(self._module()).train()
        value = network.loss(trained, self._given("batch"))
        value.backward()
        squares = [p.grad.double().square().sum() for p in trained.parameters()]
        return {"loss": value.item(), "gradient_norm": math.sqrt(sum(squares).item())}

    def flops(self, what: str) -> dict[str, Any]:
        """Floating-point operations of convolutions and matrix products, two per multiply-add."""
        run = self._run(what, "eager", "float32")
        # The counter does not know every fused attention; written out it is two products.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            run()
        return {"flops": counter.get_total_flops()}

    def choose(self, what: str, dtype: str, names: list[str], repeats: int = 3) -> dict[str, Any]:
        """Warms every variant up and keeps the fastest."""
        _full_precision(False)
        self.chosen, best = None, math.inf
        torch.compiler.reset()  # It gives up on a function that was compiled too often.
        seconds, first, failed = {}, {}, {}
        for name in names:
            if name in variants.CUDA_ONLY and DEVICE.type != "cuda":
                continue
            try:
                run = self._run(what, name, dtype)
                first[name] = _seconds(run, 1)
                n = max(1, math.ceil(SHORT / _seconds(run, 1)))
                seconds[name] = min(_seconds(run, n) for _ in range(repeats))
            except Exception as error:  # a compiler may fail in any way; it is one variant less
                failed[name] = " ".join(str(error).split())[:300]
                continue
            if seconds[name] < best:
                self.chosen, best, chosen = run, seconds[name], name
            del run
            gc.collect()
        if self.chosen is None:
            raise RuntimeError(f"no variant ran: {failed}")
        return {"variant": chosen, "seconds": seconds, "first_seconds": first, "failed": failed}

    def time(self, n: int) -> dict[str, Any]:
        """Seconds of one of n runs of what was chosen."""
        if self.chosen is None:
            raise RuntimeError("nothing was chosen")
        return {"seconds": _seconds(self.chosen, n)}

    def matmul(self, size: int, dtype: str, repeats: int = 5) -> dict[str, Any]:
        """Floating-point operations per second of a product of two square matrices."""
        _full_precision(False)
        a = torch.randn(size, size, device=DEVICE, dtype=getattr(torch, dtype))
        b = torch.randn_like(a)
        with torch.inference_mode():
            best = min(_seconds(lambda: a @ b, 1) for _ in range(repeats + 1))
        return {"flops_per_second": 2 * size**3 / best}

    def _module(self) -> nn.Module:
        params, stats = (
            {k.removeprefix(f"{part}/"): v for k, v in self.arrays.items() if k.startswith(part)}
            for part in ("params", "batch_stats")
        )
        name, options = self.request["network"], self.request["options"]
        return networks.load(name, options, params, stats).to(DEVICE)

    def _given(self, part: str) -> dict[str, torch.Tensor]:
        """Tensors under a name; arrays of images and volumes come with their channels last."""
        found = {}
        for key, value in self.arrays.items():
            if key.startswith(f"{part}/"):
                name = key.removeprefix(f"{part}/")
                # Maps of a batch have no channels.
                moved = value if name in ("target", "count") else np.moveaxis(value, -1, 1)
                found[name] = torch.from_numpy(np.ascontiguousarray(moved)).to(DEVICE)
        return found

    def _run(self, what: str, name: str, dtype: str) -> Run:
        variant, module = VARIANTS[name], self._module()
        if what == "predict":
            return variants.prediction(module, self._given("images")["image"], variant, dtype)
        batch = self._given("batch")
        return variants.training_step(self.request["network"], module, batch, variant, dtype)


def _seconds(run: Run, n: int) -> float:
    """Seconds of one of n runs in a row."""
    _wait()
    started = time.perf_counter()
    for _ in range(n):
        run()
    _wait()
    return (time.perf_counter() - started) / n


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _full_precision(wanted: bool) -> None:
    """Forbids or allows a GPU to compute float32 products in TF32."""
    torch.set_float32_matmul_precision("highest" if wanted else "high")
    torch.backends.cudnn.allow_tf32 = not wanted
    torch.backends.cudnn.benchmark = not wanted


def answer(worker: Worker, request: dict[str, Any]) -> dict[str, Any]:
    """What the worker answers to a request."""
    command: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
    try:
        return command(**request)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answers requests until they end."""
    worker = Worker()
    for line in requests:
        print(json.dumps(answer(worker, json.loads(line))), file=answers, flush=True)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    # Compilers print too: what is not an answer goes to the standard error.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
