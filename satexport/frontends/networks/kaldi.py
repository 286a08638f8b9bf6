"""Kaldi's log-mel front ends as a PyTorch module."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from satexport.frontends.kaldi import POVEY, PRE_EMPHASIS, KaldiMel


class KaldiMelNetwork(nn.Module):
    """Waveform [B, samples] in [-1, 1] to log-mel [B, F, bands], whole frames only."""

    def __init__(self, row: KaldiMel) -> None:
        super().__init__()
        self.row = row
        hann = torch.hann_window(row.frame, periodic=False)  # rounded to float32 first, as published
        window = hann if row.shape == "hann" else hann.pow(POVEY)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(row.filters()).float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        row = self.row
        x = (row.scale * audio).unfold(-1, row.frame, row.hop)             # [B, F, frame]
        x = x - x.mean(-1, keepdim=True)
        x = x - PRE_EMPHASIS * F.pad(x, (1, 0), mode="replicate")[..., :-1]
        spectrum = torch.fft.rfft(x * cast(Tensor, self.window), row.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power @ cast(Tensor, self.filters)
        return cast(Tensor, mel.clamp(min=row.floor).log())
