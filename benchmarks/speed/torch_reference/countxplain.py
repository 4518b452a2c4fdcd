"""CountXplain (MIDL 2025): prototypes on the features of a frozen CSRNet, and their losses."""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.speed.torch_reference import csrnet, weights
from benchmarks.speed.torch_reference.csrnet import CSRNet
from benchmarks.speed.torch_reference.weights import Arrays

EPSILON = 1e-4
DENSITY_SCALE = 100.0
DIVERSITY_WEIGHT = 100.0
TAU = 0.8

Maps = dict[str, torch.Tensor]


class Head(nn.Module):
    """Features [B, d, h, w] to distances, similarity, contributions and density."""

    def __init__(self, channels: int, *, n_prototypes: int = 6) -> None:
        super().__init__()
        self.n_cell = n_prototypes // 2
        self.process = nn.Conv2d(channels, channels, 1)
        self.prototypes = nn.Parameter(torch.rand(n_prototypes, channels))
        self.density = nn.Conv2d(self.n_cell, 1, 1)

    def forward(self, features: torch.Tensor) -> Maps:
        processed = torch.sigmoid(self.process(features)).float()
        # By direct difference: the expanded square cancels near a prototype.
        prototypes = self.prototypes[None, :, :, None, None]
        distances = (processed[:, None] - prototypes).square().sum(dim=2)  # [B, K, h, w]
        similarity = torch.log((distances + 1) / (distances + EPSILON))
        contribution = similarity[:, : self.n_cell] * self.density.weight[0]
        density = contribution.sum(dim=1) + self.density.bias
        return {
            "distances": distances,
            "similarity": similarity,
            "contribution": contribution,
            "density": density,
        }


class CountXplain(nn.Module):
    """Images to the maps that explain a count; only the head is trained."""

    def __init__(self, *, width: float = 1.0, n_prototypes: int = 6) -> None:
        super().__init__()
        self.extractor = CSRNet(width=width).requires_grad_(False)
        channels = max(1, round(csrnet.BACK_CHANNELS[-1] * width))
        self.head = Head(channels, n_prototypes=n_prototypes)

    def forward(self, images: torch.Tensor) -> Maps:
        features = self.extractor.features(images)
        maps = self.head(features)
        shown = {name: maps[name] for name in ("density", "similarity", "contribution")}
        return {**shown, "extractor_density": self.extractor.head(features)[:, 0].float()}


def loss(head: nn.Module, batch: Maps) -> torch.Tensor:
    """Density, prototype-to-feature and diversity losses on stored features."""
    maps = head(batch["features"])
    distances, target = maps["distances"].flatten(2), batch["target"].flatten(1)
    n_cell, rows = distances.shape[1] // 2, torch.arange(len(target), device=target.device)
    error = DENSITY_SCALE * maps["density"] - DENSITY_SCALE * batch["target"]
    cell = distances[rows, :n_cell, target.argmax(dim=1)]
    background = distances[rows, n_cell:, target.argmin(dim=1)]
    pull = cell.sum(dim=1).mean() + background.sum(dim=1).mean()
    groups = head.prototypes[:n_cell], head.prototypes[n_cell:]
    spread = sum(_same_direction(group) for group in groups) / len(groups)
    return error.square().mean() + pull + DIVERSITY_WEIGHT * spread


def _same_direction(prototypes: torch.Tensor) -> torch.Tensor:
    """Mean excess of the cosines of pairs over TAU."""
    unit = functional.normalize(prototypes, dim=1)
    size = len(unit)
    excess = functional.relu(unit @ unit.T - TAU) * (1 - torch.eye(size, device=unit.device))
    return excess.sum() / (size * (size - 1))


def load_flax(module: CountXplain, params: Arrays, batch_stats: Arrays) -> None:
    """Fills both parts, `extractor/` and `head/`, with the parameters of the method's stages."""
    csrnet.load_flax(module.extractor, params, batch_stats, "extractor/")
    weights.copy_linear(module.head.process, params, "head/process")
    weights.copy_array(module.head.prototypes, params, "head/prototypes")
    weights.copy_linear(module.head.density, params, "head/density")
