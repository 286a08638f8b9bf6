"""The published models in PyTorch, the reference for every exported file.

Parameter names are the keys of the published state dicts.

Dimensions: B streams, F frames, T tokens, d width.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from satexport.frontends.networks.preemphasis_mel import PreEmphasisMelNetwork
from satexport.models.passt.variants import (
    BLOCK_EPS,
    HEAD_EPS,
    MEAN,
    SCALE,
    Variant,
)
from satexport.models.patches import EXTRA_TOKENS
from satexport.models.transformer_network import Block, PatchEmbed


class Output(NamedTuple):
    logits: Tensor     # [B, classes], before the sigmoid
    embedding: Tensor  # [B, d]


class Transformer(nn.Module):
    """A PaSST audio tagger, without the second head `head_dist`, which is never run."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        d = variant.width
        self.front_end = PreEmphasisMelNetwork(variant.mel)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, d))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, EXTRA_TOKENS, d))
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, d, variant.rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, d, 1, variant.table_columns))
        self.patch_embed = PatchEmbed(d, variant.stride)
        self.blocks = nn.ModuleList(Block(d, variant.heads, variant.mlp, BLOCK_EPS)
                                    for _ in range(variant.depth))
        self.norm = nn.LayerNorm(d, eps=BLOCK_EPS)
        self.head = nn.Sequential(nn.LayerNorm(d, eps=HEAD_EPS), nn.Linear(d, classes))

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scores [B, classes] in (0, 1) of audio [B, samples], from the 16 frames of a patch to
        the columns of the time table."""
        return self.tag(self.features(audio)).logits.sigmoid()

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores and the embedding [B, d], of which there is one kind."""
        logits, embedding = self.tag(self.features(audio))
        return logits.sigmoid(), embedding

    def features(self, audio: Tensor) -> Tensor:
        """Return normalised log-mel [B, 128, F]."""
        return (cast(Tensor, self.front_end(audio)) - MEAN) / SCALE

    def tag(self, features: Tensor) -> Output:
        """Compute the logits and the embedding from normalised log-mel [B, 128, F]."""
        patches = self.patch_embed(features.unsqueeze(1))                  # [B, d, rows, columns]
        patches = patches + self.time_new_pos_embed[..., :patches.shape[-1]] + self.freq_new_pos_embed
        extra = torch.cat((self.cls_token, self.dist_token), 1) + self.new_pos_embed
        x = torch.cat((extra.expand(len(patches), -1, -1), patches.flatten(2).transpose(1, 2)), 1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        embedding = (x[:, 0] + x[:, 1]) / 2
        return Output(self.head(embedding), embedding)
