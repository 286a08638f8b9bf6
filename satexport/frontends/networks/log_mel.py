"""Log-mel in decibels as a PyTorch module."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from satexport.frontends.log_mel import LogMel


class LogMelNetwork(nn.Module):
    """Waveform [B, samples] in [-1, 1] to decibels [B, F, bands], without a limit below the loudest."""

    def __init__(self, row: LogMel) -> None:
        super().__init__()
        self.row = row
        self.register_buffer("window", torch.from_numpy(row.window()).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(row.filters()).float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        row = self.row
        spectrum = torch.stft(audio, row.n_fft, row.hop, window=cast(Tensor, self.window), center=True,
                              pad_mode="reflect", return_complex=True).transpose(1, 2)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power @ cast(Tensor, self.filters)
        return 10 * mel.clamp(min=row.floor).log10()
