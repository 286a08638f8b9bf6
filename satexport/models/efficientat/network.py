"""The published models in PyTorch, the reference for every exported file.

Parameter names are the keys of the published state dicts.

Dimensions: B streams, C channels, H mel bands and W frames, both fewer after each stride.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.frontends.networks.preemphasis_mel import PreEmphasisMelNetwork
from satexport.models.efficientat.embeddings import H_CLF1, H_CLF2, M_B_L, READ
from satexport.models.efficientat.variants import BN_EPS, HEAD_BN_EPS, MEAN, SCALE, Block, Variant

ACTIVATIONS = {"relu": nn.ReLU, "hardswish": nn.Hardswish}


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                 activation: str = "") -> nn.Sequential:
    """A convolution without bias, a batch norm, and an activation if one is named."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=BN_EPS)]
    return nn.Sequential(*layers, *([ACTIVATIONS[activation]()] if activation else []))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1) that depends on the means of all channels."""

    def __init__(self, count: int, bottleneck: int) -> None:
        super().__init__()
        layers = nn.ModuleDict({"fc1": nn.Linear(count, bottleneck), "fc2": nn.Linear(bottleneck, count)})
        self.conc_se_layers = nn.ModuleList([layers])

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns the same shape."""
        layers = cast(nn.ModuleDict, self.conc_se_layers[0])
        scale = layers["fc2"](F.relu(self.squeeze(x))).sigmoid()
        return x * cast(Tensor, scale)[:, :, None, None]

    def squeeze(self, x: Tensor) -> Tensor:
        """Return the inner layer before its ReLU, [B, bottleneck]."""
        layers = cast(nn.ModuleDict, self.conc_se_layers[0])
        return cast(Tensor, layers["fc1"](x.mean((2, 3))))


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each alone, scale them, project them to the block's outputs."""

    def __init__(self, sizes: Block) -> None:
        super().__init__()
        self.is_residual = sizes.is_residual
        inner, activation = sizes.expanded, sizes.activation
        parts: list[nn.Module] = []
        if sizes.expands:
            parts.append(_convolution(sizes.inputs, inner, activation=activation))
        parts.append(_convolution(inner, inner, sizes.kernel, sizes.stride, inner, activation))
        if sizes.bottleneck:
            parts.append(SqueezeExcitation(inner, sizes.bottleneck))
        parts.append(_convolution(inner, sizes.outputs))
        self.block = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W]; returns [B, outputs, H / stride, W / stride]."""
        y = self.block(x)
        return cast(Tensor, x + y if self.is_residual else y)

    def squeeze(self, x: Tensor) -> Tensor:
        """Return the inner layer of its squeeze-and-excitation, which it must have, for the input of the
        block."""
        parts = iter(self.block)
        while not isinstance(part := next(parts), SqueezeExcitation):
            x = part(x)
        return part.squeeze(x)


class MobileNet(nn.Module):
    """An audio tagger with the published parameter names."""

    def __init__(self, variant: Variant, classes: int = 527) -> None:
        super().__init__()
        self.variant = variant
        self.front_end = PreEmphasisMelNetwork(variant.mel)
        blocks = variant.blocks
        self.features = nn.Sequential(
            _convolution(1, variant.first_channels, 3, 2, activation="hardswish"),
            *map(InvertedResidual, blocks),
            _convolution(blocks[-1].outputs, variant.last_channels, activation="hardswish"))
        if variant.head == "mlp":
            self.classifier = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(variant.last_channels, variant.hidden),
                nn.Hardswish(), nn.Identity(), nn.Linear(variant.hidden, classes))
        else:
            self.classifier = nn.Sequential(
                nn.Conv2d(variant.last_channels, classes, 1, bias=False),
                nn.BatchNorm2d(classes, eps=HEAD_BN_EPS), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scores [B, classes] in (0, 1) of chunks of audio [B, samples]."""
        return self.logits(self.normalised(audio)).sigmoid()

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores and the embedding of a kind in `embeddings`, [B, size]."""
        maps = [self.normalised(audio)]  # before and after each of the features
        for layer in self.features:
            maps.append(layer(maps[-1]))
        last = maps[-1]
        if kind in (H_CLF1, H_CLF2):
            embedding = last.mean((2, 3))
            embedding = self.classifier[2:4](embedding) if kind == H_CLF2 else embedding
        elif kind == M_B_L:
            means = [maps[number + 1].mean((2, 3)) for number in READ]
            embedding = torch.cat((maps[0].mean(3)[:, 0], *means), 1)
        else:
            blocks = [cast(InvertedResidual, self.features[number]) for number in READ]
            embedding = torch.cat([block.squeeze(maps[number]) for number, block in
                                   zip(READ, blocks, strict=True)], 1)
        return cast(Tensor, self.classifier(last)).sigmoid(), embedding

    def normalised(self, audio: Tensor) -> Tensor:
        """Return the input of the first convolution, [B, 1, bands, frames]."""
        return (cast(Tensor, self.front_end(audio))[:, None] - MEAN) / SCALE

    def logits(self, x: Tensor) -> Tensor:
        """Return the scores before the sigmoid, [B, classes], of a normalised log-mel [B, 1, bands,
        frames]."""
        return cast(Tensor, self.classifier(self.features(x)))
