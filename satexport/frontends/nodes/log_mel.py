"""Log-mel front ends in decibels as ONNX nodes."""

from __future__ import annotations

from satexport.frontends.log_mel import DB_PER_LN, LogMel
from satexport.frontends.nodes.mel_power import MelPower
from satexport.graph.writer import Writer


def log_mel(g: Writer, row: LogMel, samples: int, audio: str) -> str:
    """Write the nodes from waveform [N, samples] to the natural logarithm of the mel power, [N, bands,
    frames], clamped relative to the maximum of each stream if the front end does so. Frames that have only
    appended zeros are left out. Returns the name of the result."""
    power = MelPower(n_fft=row.n_fft, hop=row.hop, window=row.window(), filters=row.filters())
    frames = row.frame_count(samples)
    used = max(samples, min(row.padded, power.span(frames) - power.left))  # of it and of the zeros behind it
    x = g.op("Pad", "mel/zeros", audio, g.ints(0, 0, 0, used - samples)) if used > samples else audio
    x = power.write(g, x, used, frames)
    x = g.op("Max", "mel/floored", x, g.scalar("mel.floor", row.floor))
    x = g.op("Log", "mel/log", x)
    if not row.is_clamped:
        return x
    bound = g.op("Sub", "mel/bound", g.max("mel/peak", x, 1, 2),
                 g.scalar("mel.top", row.top_db / DB_PER_LN))
    return g.op("Max", "mel/clamped", x, bound)
