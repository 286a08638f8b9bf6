"""The published models in PyTorch, the reference for every exported file.

Parameter names are those of the original state dicts without the prefix `module.`.

Dimensions: B streams, F frames, T tokens, d width.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.frontends.networks.kaldi import KaldiMelNetwork
from satexport.frontends.rows import KALDI_MEL_16K as KALDI_MEL
from satexport.models.ast.variants import DEVIATION, FRAMES, MEAN, Variant
from satexport.models.transformer_network import Block, PatchEmbed


class Encoder(nn.Module):
    """The vision transformer inside AST, from spectrogram to tokens."""

    def __init__(self, variant: Variant, eps: float) -> None:
        super().__init__()
        d = variant.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, variant.tokens, d))
        self.patch_embed = PatchEmbed(d, variant.stride)
        self.blocks = nn.ModuleList(Block(d, variant.heads, variant.mlp, eps) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(d, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x: normalised log-mel [B, F, 128]; returns normalised tokens [B, T, d]."""
        patches = self.patch_embed(x.transpose(1, 2).unsqueeze(1))         # [B, d, rows, columns]
        first = torch.cat((self.cls_token, self.dist_token), 1).expand(len(x), -1, -1)
        x = torch.cat((first, patches.flatten(2).transpose(1, 2)), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x))


class Output(NamedTuple):
    logits: Tensor     # [B, classes], before the sigmoid
    embedding: Tensor  # [B, d]


class Transformer(nn.Module):
    """An AST audio tagger. `eps` is that of the blocks and of the last norm, `head_eps` that of the head."""

    def __init__(self, variant: Variant, classes: int, eps: float, head_eps: float) -> None:
        super().__init__()
        self.front_end = KaldiMelNetwork(KALDI_MEL)
        self.v = Encoder(variant, eps)
        self.mlp_head = nn.Sequential(nn.LayerNorm(variant.width, eps=head_eps),
                                      nn.Linear(variant.width, classes))

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scores [B, classes] in (0, 1) of audio [B, samples] of at least one frame."""
        return self.tag(self.features(audio)).logits.sigmoid()

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores and the embedding [B, d], of which there is one kind."""
        logits, embedding = self.tag(self.features(audio))
        return logits.sigmoid(), embedding

    def features(self, audio: Tensor) -> Tensor:
        """Return normalised log-mel [B, 1024, 128]: zeros are appended to the log-mel frames of a shorter
        signal before they are normalised; frames after the 1024th are dropped."""
        mel = cast(Tensor, self.front_end(audio))
        mel = F.pad(mel, (0, 0, 0, FRAMES - mel.shape[1]))  # a negative number of frames is dropped
        return (mel - MEAN) / (2 * DEVIATION)

    def tag(self, features: Tensor) -> Output:
        """Compute the logits and the embedding from normalised log-mel [B, 1024, 128]."""
        tokens = self.v(features)
        embedding = (tokens[:, 0] + tokens[:, 1]) / 2
        return Output(self.mlp_head(embedding), embedding)
