"""Waveforms and weights behind the vectors in this folder, from numpy alone.

`waveform(seconds, rate, seed)` is the input of every vector whose file holds no wave;
`weight(family, key, shape)` fills one state-dict entry from its name, so that the
full-size models can be rebuilt without storing them.
"""

import zlib

import numpy as np

TOKENS = ("cls_token", "dist_token", "pos_embed")
BIAS_TABLES = ("relative_position_bias_table", "relative_attention_bias.weight")
SHARP = ("attn.qkv.weight", "q_proj.weight", "k_proj.weight")


def weight(family: str, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 value of one entry (published key name, no prefix such as `module.`)."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(f"{family}:{key}".encode())))
    n = rng.standard_normal(shape)
    if key == "bn0.running_mean":
        value = -30 + 5 * n
    elif key == "bn0.running_var":
        value = 300 + 100 * np.abs(n)
    elif key.endswith("running_mean"):
        value = 0.1 * n
    elif key.endswith("running_var"):
        value = 1 + 0.2 * np.abs(n)
    elif key.endswith("bias"):
        value = 0.05 * n
    elif key.endswith(TOKENS):
        value = 0.3 * n
    elif key.endswith(BIAS_TABLES):
        value = 0.5 * n
    elif key.endswith("grep_a"):
        value = 1 + 0.3 * n
    elif key.endswith("weight_g"):
        value = 1.2 + 0.1 * n
    elif len(shape) == 1:  # LayerNorm and BatchNorm scales
        value = 1 + 0.1 * n
    else:  # linear layers and convolutions: [out, in, ...]
        gain = 2.0 if key.endswith(SHARP) else 1.4 if family.startswith("mn") else 1.0
        value = gain * n / np.sqrt(np.prod(shape[1:]))
    return value.astype(np.float32)


def waveform(seconds: float, rate: int, seed: int = 11) -> np.ndarray:
    """Return a float32 signal in [-1, 1], a multiple of 1/32768: a chirp, clicks, noise
    bursts over a noise floor, a constant offset and, after 0.6 s, a gap of digital silence."""
    n = round(seconds * rate)
    t = np.arange(n) / rate
    rng = np.random.Generator(np.random.PCG64(seed))
    chirp = 0.3 * np.sin(2 * np.pi * (150 * t + 200 * t**2)) * (np.floor(t * 1.7) % 2)
    clicks = 0.6 * (np.arange(n) % (rate // 4) < rate // 800)
    bursts = 0.2 * rng.standard_normal(n) * (np.sin(2 * np.pi * 0.9 * t) > 0.2)
    floor = 0.003 * rng.standard_normal(n) + 0.01
    signal = np.clip(chirp + clicks + bursts + floor, -1, 32767 / 32768)
    signal[(t > 0.6) & (t < 0.7)] = 0.0
    rounded: np.ndarray = (np.round(signal * 32768) / 32768).astype(np.float32)
    return rounded
