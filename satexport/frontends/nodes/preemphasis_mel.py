"""The front ends of EfficientAT and PaSST as ONNX nodes."""

from __future__ import annotations

import numpy as np

from satexport.frontends.nodes.mel_power import MelPower
from satexport.frontends.preemphasis_mel import PreEmphasisMel
from satexport.graph.writer import Writer


def preemphasis_mel(g: Writer, row: PreEmphasisMel, samples: int, audio: str, shift: float = 0.0) -> str:
    """Write the nodes from waveform [N, samples] to ln(power + offset) + shift, [N, bands, frames]. The shift
    needs no node: it is a factor of the filters and of the offset. Returns the name of the result."""
    factor = np.exp(shift)
    power = MelPower(n_fft=row.n_fft, hop=row.hop, window=row.window(), filters=factor * row.filters())
    frames = row.frame_count(samples)
    used = min(samples - 1, power.span(frames) - power.left)
    # a sum, because OpenVINO would write a difference as one and lose the attribute that keeps it in f32
    previous = g.op("Mul", "mel/previous", g.slice("mel/earlier", audio, 1, 0, used),
                    g.scalar("mel.pre_emphasis", -row.pre_emphasis))
    x = g.op("Add", "mel/emphasised", g.slice("mel/later", audio, 1, 1, 1 + used), previous)
    x = power.write(g, x, used, frames)
    x = g.op("Add", "mel/raised", x, g.scalar("mel.offset", factor * row.offset))
    return g.op("Log", "mel/log", x)
