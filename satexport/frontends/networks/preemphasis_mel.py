"""The front ends with pre-emphasis as a PyTorch module."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from satexport.frontends.preemphasis_mel import PreEmphasisMel


class PreEmphasisMelNetwork(nn.Module):
    """Waveform [B, samples] in [-1, 1] to ln(power + offset), [B, bands, frames]."""

    def __init__(self, row: PreEmphasisMel) -> None:
        super().__init__()
        self.row = row
        self.register_buffer("window", torch.from_numpy(row.window()).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(row.filters().T.copy()).float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        row = self.row
        emphasised = audio[:, 1:] - row.pre_emphasis * audio[:, :-1]
        spectrum = torch.stft(emphasised, row.n_fft, row.hop, row.window_length, cast(Tensor, self.window),
                              center=True, pad_mode="reflect", return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()            # [B, bins, frames]
        return torch.log(cast(Tensor, self.filters) @ power + row.offset)
