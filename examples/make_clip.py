"""Write an example clip: three synthetic sounds of 6 s each.

    python examples/make_clip.py build/clip.wav
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

from satexport.audio.synthetic import synthetic_clip

RATE = 16_000  # Hz
INDICES = (4, 11, 6)  # in the evaluation split, which is never used for training


def main() -> None:
    path = Path(sys.argv[1])
    clips = [synthetic_clip("evaluate", index, rate=RATE) for index in INDICES]
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.concatenate([audio for audio, _ in clips]), RATE)
    print(f"{path}: " + ", then ".join(" + ".join(labels) for _, labels in clips) + ", 6 s each")


if __name__ == "__main__":
    main()
