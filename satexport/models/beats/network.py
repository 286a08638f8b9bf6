"""The published models in PyTorch, the reference for every exported file.

Parameter names are those of the published state dicts. Dimensions: B streams, F frames, T tokens, d width,
h heads.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.frontends.networks.kaldi import KaldiMelNetwork
from satexport.frontends.rows import KALDI_MEL_16K_POVEY as KALDI_MEL
from satexport.models.beats.variants import (
    DEVIATION,
    EPS,
    GATES,
    GROUPS,
    MEAN,
    PATCH,
    TAPS,
    Size,
    Variant,
    find_buckets,
)


class PositionConv(nn.Module):
    """A convolution over tokens, whose weights are normalised: each tap has the norm `weight_g`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(1, 1, TAPS))
        self.weight_v = nn.Parameter(torch.ones(width, width // GROUPS, TAPS))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, d]; returns [B, T, d]."""
        norm = self.weight_v.square().sum((0, 1), keepdim=True).sqrt()
        weight = self.weight_g * self.weight_v / norm
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=TAPS // 2, groups=GROUPS)
        return F.gelu(y[..., :-1]).transpose(1, 2)  # an even number of taps: one output too many


class Attention(nn.Module):
    """Attention among the tokens of each stream, with a bias by distance that each query scales."""

    def __init__(self, size: Size, relative_attention_bias: nn.Embedding) -> None:
        super().__init__()
        self.size, d = size, size.width
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(d, d) for _ in range(4))
        self.grep_linear = nn.Linear(d // size.heads, GATES)
        self.grep_a = nn.Parameter(torch.ones(1, size.heads, 1, 1))
        self.relative_attention_bias = relative_attention_bias

    def bias(self, tokens: int) -> Tensor:
        """Return the bias of each query for each key before it is scaled, [h, T, T]."""
        position = torch.arange(tokens)
        buckets = torch.from_numpy(find_buckets(self.size, tokens))        # by the distance from query to key
        rows = buckets[position - position[:, None] + tokens - 1]
        return cast(Tensor, self.relative_attention_bias(rows)).permute(2, 0, 1).contiguous()

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x: [B, T, d]; bias: [h, T, T]; returns [B, T, d]."""
        q, k, v = (part(x).unflatten(-1, (self.size.heads, -1)).transpose(1, 2)  # [B, h, T, d / h]
                   for part in (self.q_proj, self.k_proj, self.v_proj))
        first, second = self.grep_linear(q).unflatten(-1, (2, -1)).sum(-1).sigmoid().split(1, -1)
        gate = first * (second * self.grep_a - 1) + 2                       # [B, h, T, 1]
        mixed = F.scaled_dot_product_attention(q, k, v, gate * bias)
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Post-norm transformer block."""

    def __init__(self, size: Size, relative_attention_bias: nn.Embedding) -> None:
        super().__init__()
        self.self_attn = Attention(size, relative_attention_bias)
        self.self_attn_layer_norm = nn.LayerNorm(size.width, EPS)
        self.fc1 = nn.Linear(size.width, size.mlp)
        self.fc2 = nn.Linear(size.mlp, size.width)
        self.final_layer_norm = nn.LayerNorm(size.width, EPS)

    def forward(self, x: Tensor, bias: Tensor, alpha: float) -> Tensor:
        """x: [B, T, d]; bias: [h, T, T]; returns [B, T, d]."""
        x = self.self_attn_layer_norm(alpha * x + self.self_attn(x, bias))
        return cast(Tensor, self.final_layer_norm(alpha * x + self.fc2(F.gelu(self.fc1(x)))))


class Encoder(nn.Module):
    """The transformer inside BEATs."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.size, self.alpha = variant.size, variant.alpha
        self.pos_conv = nn.Sequential(PositionConv(self.size.width))
        self.layer_norm = nn.LayerNorm(self.size.width, EPS)
        table = nn.Embedding(self.size.buckets, self.size.heads)  # one for all layers
        self.layers = nn.ModuleList(Block(self.size, table) for _ in range(self.size.depth))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, d]; returns [B, T, d]."""
        bias = cast(Block, self.layers[0]).self_attn.bias(x.shape[1])  # the same for all layers
        x = self.layer_norm(x + self.pos_conv(x))
        for layer in self.layers:
            x = layer(x, bias, self.alpha)
        return x


class Output(NamedTuple):
    logits: Tensor     # [B, classes], before the sigmoid
    embedding: Tensor  # [B, d]


class Transformer(nn.Module):
    """A BEATs audio tagger."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        size = variant.size
        self.front_end = KaldiMelNetwork(KALDI_MEL)
        self.patch_embedding = nn.Conv2d(1, size.embed, PATCH, stride=PATCH, bias=False)
        self.layer_norm = nn.LayerNorm(size.embed, EPS)
        if size.embed != size.width:
            self.post_extract_proj = nn.Linear(size.embed, size.width)
        self.encoder = Encoder(variant)
        self.predictor = nn.Linear(size.width, classes)

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scores [B, classes] in (0, 1) of audio [B, samples] of at least 16 frames."""
        return self.tag(self.features(audio)).logits.sigmoid()

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores and the embedding [B, d], of which there is one kind."""
        logits, embedding = self.tag(self.features(audio))
        return logits.sigmoid(), embedding

    def features(self, audio: Tensor) -> Tensor:
        """Return normalised log-mel [B, F, 128]."""
        return cast(Tensor, self.front_end(audio) - MEAN) / (2 * DEVIATION)

    def tag(self, features: Tensor) -> Output:
        """Compute the logits and the embedding from normalised log-mel [B, F, 128]. Frames behind the last
        whole patch are not read."""
        patches = self.patch_embedding(features.unsqueeze(1))         # [B, embed, F / 16, 8]
        x = self.layer_norm(patches.flatten(2).transpose(1, 2))       # all bands of a time, then the next
        if self.encoder.size.embed != self.encoder.size.width:
            x = self.post_extract_proj(x)
        tokens = self.encoder(x)
        return Output(self.predictor(tokens).mean(1), tokens.mean(1))
