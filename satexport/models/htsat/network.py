"""The published model in PyTorch, the reference for every exported file.

Parameter names are those of the published state dict without the prefix `sed_model.`.

Dimensions: B streams, F frames, d width of a token, s rows and columns of tokens, W windows, h heads.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.frontends.networks.log_mel import LogMelNetwork
from satexport.frontends.rows import SLANEY_MEL_32K as MEL
from satexport.models.htsat.variants import (
    BANDS,
    EPS,
    MASKED,
    MLP_RATIO,
    PATCH,
    PIECES,
    SIDE,
    WINDOW,
    Stage,
    Variant,
)
from satexport.models.transformer_network import Mlp


class PatchEmbed(nn.Module):
    """The projection of patches of 4 by 4 to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, image: Tensor) -> Tensor:
        """image: [B, 1, 256, 256]; returns tokens [B, 64, 64, d], rows first."""
        return cast(Tensor, self.norm(self.proj(image).permute(0, 2, 3, 1)))


def position_index() -> Tensor:
    """Return the row of the relative position bias table for each pair of tokens in a window, [64, 64]."""
    places = torch.stack(torch.meshgrid(torch.arange(WINDOW), torch.arange(WINDOW), indexing="ij")).flatten(1)
    down, right = places[:, :, None] - places[:, None] + WINDOW - 1
    return cast(Tensor, down * (2 * WINDOW - 1) + right)


def shift_mask(side: int) -> Tensor:
    """Return what is added to the logits of each window of a map that was rolled by half a window,
    [W, 64, 64]: tokens that were not neighbours before do not see each other."""
    zone = torch.zeros(side, dtype=torch.long)
    zone[-WINDOW:], zone[-(WINDOW // 2):] = 1, 2
    zones = to_windows((3 * zone[:, None] + zone)[None, :, :, None])[..., 0]     # [W, 64]
    return (zones[:, :, None] != zones[:, None]) * MASKED


def to_windows(x: Tensor) -> Tensor:
    """Return a map [B, s, s, d] as windows [B * W, 64, d]."""
    count = x.shape[1] // WINDOW
    x = x.view(-1, count, WINDOW, count, WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, WINDOW ** 2, x.shape[-1])


def from_windows(x: Tensor, side: int) -> Tensor:
    """Return windows [B * W, 64, d] as a map [B, s, s, d]."""
    count = side // WINDOW
    x = x.view(-1, count, count, WINDOW, WINDOW, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, side, side, x.shape[-1])


class WindowAttention(nn.Module):
    """Attention among the tokens of each window."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.register_buffer("relative_position_index", position_index(), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: [B * W, 64, d], mask: [W, 64, 64]; returns [B * W, 64, d]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        logits = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)                   # [B * W, h, 64, 64]
        index = cast(Tensor, self.relative_position_index)
        logits = logits + self.relative_position_bias_table[index].permute(2, 0, 1)
        if mask is not None:
            logits = (logits.unflatten(0, (-1, len(mask))) + mask[:, None]).flatten(0, 1)
        mixed = logits.softmax(-1) @ v                                           # [B * W, h, 64, d / h]
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class SwinBlock(nn.Module):
    """A pre-norm transformer block with attention in windows, which may be shifted by half a window."""

    def __init__(self, stage: Stage, is_shifted: bool) -> None:
        super().__init__()
        self.shift = WINDOW // 2 if is_shifted else 0
        self.norm1 = nn.LayerNorm(stage.width, eps=EPS)
        self.attn = WindowAttention(stage.width, stage.heads)
        self.norm2 = nn.LayerNorm(stage.width, eps=EPS)
        self.mlp = Mlp(stage.width, MLP_RATIO * stage.width)
        self.register_buffer("attn_mask", shift_mask(stage.side) if is_shifted else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: map [B, s, s, d]; returns a map of the same shape."""
        y = self.norm1(x)
        if self.shift:
            y = y.roll((-self.shift, -self.shift), (1, 2))
        y = from_windows(self.attn(to_windows(y), cast("Tensor | None", self.attn_mask)), x.shape[1])
        if self.shift:
            y = y.roll((self.shift, self.shift), (1, 2))
        x = x + y
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class Downsample(nn.Module):
    """Merges 2 by 2 tokens to one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=EPS)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: map [B, s, s, d]; returns a map [B, s / 2, s / 2, 2 d]."""
        x = torch.cat((x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]), -1)
        return cast(Tensor, self.reduction(self.norm(x)))


class SwinStage(nn.Module):
    """The blocks at one resolution, and after all stages but the last the step to the next one."""

    def __init__(self, stage: Stage, is_last: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(SwinBlock(stage, stage.is_shifted(n)) for n in range(stage.depth))
        self.downsample = nn.Identity() if is_last else Downsample(stage.width)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.downsample(x))


class Output(NamedTuple):
    logits: Tensor     # [B, classes], before the sigmoid
    embedding: Tensor  # [B, d of the last stage]
    framewise: Tensor  # logits of 32 pieces of time, [B, classes, 32]


class Transformer(nn.Module):
    """An HTS-AT audio tagger."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        stages, d = variant.stages, variant.embedding
        self.front_end = LogMelNetwork(MEL)
        self.bn0 = nn.BatchNorm2d(BANDS, eps=EPS)
        self.patch_embed = PatchEmbed(variant.width)
        self.layers = nn.ModuleList(SwinStage(stage, stage == stages[-1]) for stage in stages)
        self.norm = nn.LayerNorm(d, eps=EPS)
        self.tscam_conv = nn.Conv2d(d, classes, (WINDOW // PIECES, 3), padding=(0, 1))

    def forward(self, audio: Tensor) -> Tensor:
        """Return the scores [B, classes] in (0, 1) of audio [B, samples] of at most 10 s."""
        return self.tag(self.features(audio)).logits.sigmoid()

    def embed(self, audio: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Return the scores and the embedding [B, d], of which there is one kind."""
        output = self.tag(self.features(audio))
        return output.logits.sigmoid(), output.embedding

    def features(self, audio: Tensor) -> Tensor:
        """Return decibels [B, 1001, 64] of the audio with zero samples behind it up to 10 s."""
        return cast(Tensor, self.front_end(F.pad(audio, (0, MEL.padded - audio.shape[1]))))

    def image(self, decibels: Tensor) -> Tensor:
        """Return the image [B, 1, 256, 256] of at most 1024 frames of decibels [B, F, 64]: they are
        normalised and stretched to 1024 frames; four pieces of them lie above each other, 64 bands each."""
        x = self.bn0(decibels.transpose(1, 2).unsqueeze(-1)).permute(0, 3, 2, 1)   # [B, 1, F, 64]
        x = F.interpolate(x, (PIECES * SIDE, BANDS), mode="bicubic", align_corners=True)
        x = x.view(-1, PIECES, SIDE, BANDS).transpose(2, 3)
        return x.reshape(-1, 1, PIECES * BANDS, SIDE)

    def tag(self, decibels: Tensor) -> Output:
        """Compute logits and embedding from decibels [B, F, 64]."""
        x = self.patch_embed(self.image(decibels))
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)                                                         # [B, 8, 8, d]
        pieces = x.view(-1, PIECES, WINDOW // PIECES, WINDOW, x.shape[-1])
        pieces = pieces.permute(0, 4, 2, 1, 3).flatten(3)                        # [B, d, 2, 32]
        framewise = self.tscam_conv(pieces).squeeze(2)
        return Output(framewise.mean(-1), x.mean((1, 2)), framewise)
