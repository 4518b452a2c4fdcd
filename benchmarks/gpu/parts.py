"""The parts of `benchmarks.gpu`, in the order in which they start."""

import dataclasses
import sys
from pathlib import Path

from cellcount_jax.models.pretrained import OXFORD_FILE

MORE_SEEDS = (1, 2)
"""Further seeds of DCL's parts, after all parts with seed 0 have started."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A process that measures one thing.

    Attributes:
      name: Name of the part and of its run.
      config: `FILE.py:preset` that is trained; None: the speed of training steps.
      fields: Config fields that are changed at any size.
      full: Fields that are changed at full size alone.
      data: Folder of raw data that it needs.
      weights: Whether it starts from VGG-16's weights.
      after: The part whose run this one starts from.
      alone: Nothing may run beside it.
    """

    name: str
    config: str | None = None
    fields: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    data: str | None = None
    weights: bool = True
    after: str | None = None
    alone: bool = False

    def folder(self, runs: Path) -> Path:
        """Where its results are written."""
        return runs / self.name

    def missing(self, raw: Path, *, tiny: bool = False) -> str | None:
        """The first thing that it needs and that is not in the folder of raw data."""
        needs = [self.data, OXFORD_FILE if self.weights and not tiny else None]
        return next((name for name in needs if name and not (raw / name).exists()), None)

    def command(self, runs: Path, *, tiny: bool = False) -> list[str]:
        """Its command line.

        Args:
          runs: Folder of the workdirs.
          tiny: The preset `tiny`, or small networks: only whether it runs.
        """
        python = [sys.executable, "-m"]
        if self.config is None:
            small = ["--tiny", "--batches", "2", "--matmul", "256", "--seconds", "60"]
            out = f"--out={self.folder(runs) / 'speed.json'}"
            return [*python, "benchmarks.gpu.speed", *(small if tiny else []), out]
        path, _, preset = self.config.partition(":")
        if tiny:
            preset = "tiny_supervised" if preset == "supervised" else "tiny"
        fields = [*self.fields, *(() if tiny else ("dtype=bfloat16", *self.full))]
        if self.after is not None:
            fields.append(f"init_from={runs / self.after}:csrnet")
        return [
            *python,
            "cellcount_jax.main",
            f"--config={path}:{preset}",
            f"--workdir={self.folder(runs)}",
            *(f"--config.{field}" for field in fields),
        ]


def plan(stage: str, *, call: int, every: int | None = None) -> tuple[str, ...]:
    """Fields of a stage's plan: steps in one compiled call, and epochs between validations."""
    found = {"steps_per_call": call, "eval_every": every}
    return tuple(f"stages.{stage}.{k}={v}" for k, v in found.items() if v is not None)


def _dcl(name: str, data: str, *, localizer: bool) -> list[Part]:
    """DCL with and without message passing; the second never with a localizer."""
    config, without = f"configs/dcl_{name}.py:vgg16", ("localizer.enabled=False",)
    counter, points = plan("counter", call=13, every=10), plan("localizer", call=13, every=10)
    fields, full = ((), (*counter, *points)) if localizer else (without, counter)
    alone = (*without, "model.message_passing=False")
    return [
        Part(f"dcl_{name}", config, fields, full, data),
        Part(f"dcl_{name}_without", config, alone, counter, data),
    ]


def _countxplain() -> list[Part]:
    """CSRNet on MBM, and prototypes on it with and without the loss that keeps them apart."""
    weights = ("model.pretrained=oxford",)
    csrnet = (*weights, *plan("csrnet", call=22, every=10))
    prototypes = (*weights, *plan("prototypes", call=3, every=50))
    config, without = "configs/countxplain_mbm.py:imagenet", ("prototypes.diversity_weight=0.0",)
    first = Part("csrnet_mbm", "configs/csrnet_mbm.py:imagenet", full=csrnet, data="mbm")
    explained = Part("countxplain_mbm", config, (), prototypes, "mbm", after=first.name)
    name = "countxplain_mbm_without_diversity"
    return [first, explained, dataclasses.replace(explained, name=name, fields=without)]


def _consistency() -> list[Part]:
    """A quarter of the published steps, 24 of 80 unlabelled crops, after the supervised twin."""
    steps = ("stages.consistency.steps=3150", *plan("consistency", call=10))
    fewer, data = ("stages.consistency.batch_size.unlabelled=24",), "vgg_cells"
    name, config = "consistency_vgg", "configs/consistency_vgg.py"
    return [
        Part(f"{name}_supervised", f"{config}:supervised", (), steps, data, weights=False),
        Part(name, config, (), (*steps, *fewer), data, weights=False),
    ]


def _parts() -> list[Part]:
    vgg, adi = _dcl("vgg", "vgg_cells", localizer=True), _dcl("adi", "adi", localizer=False)
    mbm, (csrnet, *prototypes) = _dcl("mbm", "mbm", localizer=False), _countxplain()
    speed = Part("speed", weights=False, alone=True)
    first = [*vgg, csrnet, *adi, *prototypes, *mbm, *_consistency()]
    repeated = [_seeded(part, seed) for seed in MORE_SEEDS for part in [*vgg, *adi, *mbm]]
    return [speed, *first, *repeated]


def _seeded(part: Part, seed: int) -> Part:
    """The same part with another seed, of the split too; counts alone."""
    fields = tuple(dict.fromkeys([*part.fields, "localizer.enabled=False", f"seed={seed}"]))
    return dataclasses.replace(part, name=f"{part.name}_seed{seed}", fields=fields)


PARTS = tuple(_parts())
