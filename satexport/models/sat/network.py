"""The published models in PyTorch, the reference for every exported file.

A model is a pure function of audio and cache: `scores, cache = model(audio, cache)`. The cache is the
published one: the last C input tokens of each block, [depth, B, C, d]; None is the empty cache. Parameter
names are the keys of the published state dicts.

Dimensions: B streams, T new tokens, C cached tokens, d width, h heads, F frames.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.models.sat.variants import (
    BLOCK_EPS,
    BN_EPS,
    LOG_MEL,
    MLP_RATIO,
    OUTPUT_EPS,
    PATCH,
    ROWS,
    Variant,
)
from satexport.models.transformer_network import Mlp


class LogMel(nn.Module):
    """Waveform [B, samples] in [-1, 1] to decibels [B, 64, F], clamped per stream. Its window and filters
    have the names that they have in published state dicts, unlike those of `frontends.networks`."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = nn.Module()
        self.spectrogram.register_buffer("window", torch.from_numpy(LOG_MEL.window()).float())
        self.mel_scale = nn.Module()
        self.mel_scale.register_buffer("fb", torch.from_numpy(LOG_MEL.filters()).float())

    def forward(self, audio: Tensor) -> Tensor:
        window = cast(Tensor, self.spectrogram.window)
        spectrum = torch.stft(audio, LOG_MEL.n_fft, LOG_MEL.hop, window=window, center=True,
                              pad_mode="reflect", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()            # [B, 257, F]
        mel = (power.transpose(1, 2) @ cast(Tensor, self.mel_scale.fb)).transpose(1, 2)
        decibels = 10 * torch.log10(mel.clamp(min=LOG_MEL.floor))
        return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - LOG_MEL.top_db)


class PatchEmbed(nn.Module):
    """The projection of patches of 16 frames by 16 bands to tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH, stride=PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, 1, 64, F]; returns [B, d, 4, columns]."""
        return cast(Tensor, self.proj(x))


class Attention(nn.Module):
    """Attention with queries from the new tokens, keys and values from cached and new tokens."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        d = variant.width
        self.heads = variant.heads
        if variant.has_cache:
            self.to_q = nn.Linear(d, d)
            self.to_kv = nn.Linear(d, 2 * d)
        else:
            self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)

    def forward(self, new: Tensor, context: Tensor) -> Tensor:
        """new: [B, T, d], context: [B, C + T, d], both normalized; returns [B, T, d]."""
        if hasattr(self, "qkv"):
            q, k, v = self.qkv(new).chunk(3, dim=-1)
        else:
            q, (k, v) = self.to_q(new), self.to_kv(context).chunk(2, dim=-1)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v)                    # [B, h, T, d / h]
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(variant.width, eps=BLOCK_EPS)
        self.attn = Attention(variant)
        self.norm2 = nn.LayerNorm(variant.width, eps=BLOCK_EPS)
        self.mlp = Mlp(variant.width, MLP_RATIO * variant.width)

    def forward(self, x: Tensor, cached: Tensor) -> Tensor:
        """x: [B, T, d], cached: [B, C, d] (C may be 0); returns [B, T, d]."""
        new = self.norm1(x)
        context = torch.cat((self.norm1(cached), new), dim=1) if cached.shape[1] else new
        x = x + self.attn(new, context)
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A SAT, ViT or CED audio tagger with the published parameter names."""

    def __init__(self, variant: Variant, classes: int = 527) -> None:
        super().__init__()
        self.variant = variant
        d = variant.width
        self.front_end = nn.Sequential(LogMel())
        self.init_bn = nn.Sequential(nn.Identity(), nn.BatchNorm2d(LOG_MEL.bands, eps=BN_EPS))
        self.patch_embed = PatchEmbed(d)
        self.time_pos_embed = nn.Parameter(torch.randn(1, d, 1, variant.time_columns) * 0.02)
        self.freq_pos_embed = nn.Parameter(torch.randn(1, d, ROWS, 1) * 0.02)
        if variant.pooling == "token":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
            self.token_pos_embed = nn.Parameter(torch.randn(1, d) * 0.02)
        self.blocks = nn.ModuleList(Block(variant) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(d, eps=BLOCK_EPS)
        self.outputlayer = nn.Sequential(nn.LayerNorm(d, eps=OUTPUT_EPS), nn.Linear(d, classes))

    def forward(self, audio: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute one step from a chunk of audio [B, samples] and the cache [depth, B, C, d]. Returns the
        scores [B, classes] in (0, 1) and the new cache, None for a model without a cache."""
        logits, _, cache = self.tag(audio, cache)
        return logits.sigmoid(), cache

    def tag(self, audio: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compute the same, but return the scores before the sigmoid, the embedding [B, d] and the cache."""
        features = self._features(audio)[..., :self.variant.chunk_frames]
        embedding, cache = self._embed(features, cache)
        return self.outputlayer(embedding), embedding, cache

    def logits(self, features: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the scores before the sigmoid, and the cache, of features [B, 1, 64, F]."""
        embedding, cache = self._embed(features, cache)
        return self.outputlayer(embedding), cache

    def _embed(self, features: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self._tokens(features)
        empty = x[:, :0]
        new_cache = []
        for number, block in enumerate(self.blocks):
            cached = empty if cache is None else cache[number]
            if number == 0 and cache is not None:
                cached = self._add_position_again(cached)
            new_cache.append(torch.cat((cached, x), dim=1)[:, -self.variant.cache_tokens:])
            x = block(x, cached)
        x = self.norm(x)
        pooled = x[:, 0] if self.variant.pooling == "token" else x.mean(1)
        return pooled, torch.stack(new_cache) if self.variant.has_cache else None

    def silence_cache(self) -> Tensor | None:
        """Return the initial cache of one stream, [depth, 1, C, d]: the cache after one pass over silence
        that starts with an empty cache. None for a model without a cache."""
        if not self.variant.has_cache:
            return None
        silence = torch.zeros(1, self.variant.silence_samples,
                              device=self.freq_pos_embed.device, dtype=self.freq_pos_embed.dtype)
        return cast(Tensor, self(silence)[1])

    def clip_scores(self, audio: Tensor) -> Tensor:
        """Score clips [B, samples] by the paper's protocol; returns [B, classes].

        The spectrogram of a whole clip is split into pieces of `chunk_frames`, the cache starts empty, and
        the scores of the pieces are averaged. A clip no longer than one piece is scored without padding,
        except that one shorter than a patch (0.15 s) is padded with zeros at its end.
        """
        features = self._features(F.pad(audio, (0, max(0, (PATCH - 1) * LOG_MEL.hop - audio.shape[1]))))
        cache, scores = None, []
        for piece in self._pieces(features):
            logits, cache = self.logits(piece, cache)
            scores.append(logits.sigmoid())
        return torch.stack(scores).mean(0)

    def _pieces(self, features: Tensor) -> list[Tensor]:
        """Split the features [B, 1, 64, F] of a clip into the pieces to score. SAT and ViT drop an incomplete
        last piece. CED pads it with zeros; but if all of several pieces are complete, the published code of
        CED leaves out the last one."""
        size = self.variant.chunk_frames
        *whole, last = torch.split(features, size, dim=-1)
        missing = size - last.shape[-1]
        if not whole:
            return [last]
        if self.variant.is_ced:
            return [*whole, F.pad(last, (0, missing))] if missing else whole
        return whole if missing else [*whole, last]

    def _features(self, audio: Tensor) -> Tensor:
        """Return the features of audio [B, samples]: decibels after the batch norm, [B, 1, 64, F]."""
        mel = self.front_end(audio)
        return cast(Tensor, self.init_bn(mel.unsqueeze(2)).transpose(1, 2))

    def _tokens(self, features: Tensor) -> Tensor:
        """Return the tokens [B, T, d] of features [B, 1, 64, F], frequency-major, with position codes."""
        x: Tensor = self.patch_embed(features)                             # [B, d, 4, columns]
        x = x + self.time_pos_embed[..., :x.shape[-1]] + self.freq_pos_embed
        x = x.flatten(2).transpose(1, 2)
        if self.variant.pooling == "token":
            token = (self.cls_token + self.token_pos_embed).expand(len(x), -1, -1)
            x = torch.cat((token, x), dim=1)
        return x

    def _add_position_again(self, cached: Tensor) -> Tensor:
        """Add the position codes to cached tokens [B, C, d], with the last columns of the time code: layer 0
        of the published models does so in every step."""
        code = self.time_pos_embed[..., -self.variant.cache_columns:] + self.freq_pos_embed
        again: Tensor = cached + code.flatten(2).transpose(1, 2)           # [1, C, d]
        return again
