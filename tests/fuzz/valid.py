"""The valid files that `kinds` mutates."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np

RATE = 16_000
FORMATS = {  # ending -> soundfile's format and subtype
    "wav": ("WAV", "PCM_16"),
    "24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "MS_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "ex.wav": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "float.aiff": ("AIFF", "FLOAT"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "flac": ("FLAC", "PCM_16"),
    "24.flac": ("FLAC", "PCM_24"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "voc": ("VOC", "PCM_16"),
    "paf": ("PAF", "PCM_16"),
    "iff": ("SVX", "PCM_16"),
    "nist": ("NIST", "PCM_16"),
    "ircam": ("IRCAM", "PCM_16"),
    "mat4": ("MAT4", "PCM_16"),
    "mat5": ("MAT5", "PCM_16"),
    "pvf": ("PVF", "PCM_16"),
    "xi": ("XI", "DPCM_16"),
    "htk": ("HTK", "PCM_16"),
    "avr": ("AVR", "PCM_16"),
    "mpc": ("MPC2K", "PCM_16"),
    "sds": ("SDS", "PCM_16"),
}
TARGETS = ("cpu-fp32", "cpu-int8", "openvino-int8", "jetson-orin-nano", "onnx")


def prepare(folder: Path, bundle: Path) -> None:
    """Write the valid files; `bundle` is that of the demo."""
    import soundfile
    import torch

    from satexport.audio.synthetic import synthetic_stream
    from satexport.models.checkpoint import load_checkpoint
    from satexport.models.families import find_variant
    from satexport.models.sat.family import DEMOS
    from satexport.targets import FOLDER

    sound = synthetic_stream(1, "calibrate", rate=RATE)
    for part in ("audio", "pcm", "checkpoint", "bundle", "target", "calibration", "labels", "set"):
        (folder / part).mkdir(parents=True)
    for ending, (kind, subtype) in FORMATS.items():
        channels = 1 if kind in ("SVX", "XI", "SDS", "HTK") or subtype == "GSM610" else 2
        soundfile.write(
            folder / "audio" / f"sound.{ending}",
            np.repeat(sound[:, None], channels, 1),
            RATE,
            subtype,
            format=kind,
        )
    (folder / "pcm" / "sound").write_bytes((sound * 32767).astype("<i2").tobytes())
    checkpoint = load_checkpoint("demo", find_variant("sat-t", 2))
    shutil.copytree(bundle, folder / "bundle" / "onnx")
    shutil.copy(DEMOS["sat-t-2s"], folder / "checkpoint" / "demo.safetensors")
    torch.save(
        {name: torch.from_numpy(value.astype(np.float16)) for name, value in checkpoint.state.items()},
        folder / "checkpoint" / "demo.pt",
    )
    for name in TARGETS:
        shutil.copy(FOLDER / f"{name}.toml", folder / "target")
    _prepare_sets(folder)


def _prepare_sets(folder: Path) -> None:
    """Clips, and tables and manifests that list them."""
    import soundfile

    from satexport.audio.labels import audioset_labels
    from satexport.audio.synthetic import synthetic_stream

    clips = folder / "clips"
    clips.mkdir()
    for number in range(4):
        soundfile.write(
            clips / f"{number}.wav", synthetic_stream(2, "calibrate", rate=RATE)[:: number % 2 * 2 - 1], RATE
        )
    soundfile.write(clips / "long.flac", synthetic_stream(40, "calibrate", rate=RATE), RATE)
    labels = folder / "labels"
    (labels / "labels.txt").write_text("\n".join(audioset_labels()) + "\n", encoding="utf-8")
    (labels / "labels.csv").write_text(
        'index,mid,display_name\n0,/m/a,Dog\n1,/m/b,"Burst, pop"\n', encoding="utf-8"
    )
    (folder / "set" / "set.csv").write_text(
        'filename,labels\n0.wav,Speech;Dog\n1.wav,"Burst, pop"\n2.wav,Rain\n'
    )
    (folder / "set" / "audioset.csv").write_text(
        "# Segments csv\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
        '0, 0.000, 10.000, "/m/09x0r,/m/0bt9lr"\n1, 30.000, 40.000, "/m/09x0r"\n'
    )
    (folder / "set" / "dcase.tsv").write_text(
        "filename\tonset\toffset\tevent_label\n0.wav\t0.5\t1.75\tDog\n0.wav\t1\t2\tSpeech\n1.wav\t\t\t\n"
    )
    (folder / "set" / "audioset_strong.tsv").write_text(
        "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n0_0\t0.0\t1.5\t/m/09x0r\n"
    )
    checksum = hashlib.sha256((clips / "0.wav").read_bytes()).hexdigest()
    (folder / "calibration" / "folder.toml").write_text(
        'name = "mine"\nsource = "folder"\nlicence = "my own"\nclips = 4\nsamples = 16\n'
        f'stream_seconds = 30\nseed = 3\nfolder = "."\n\n[checksums]\n"0.wav" = "{checksum}"\n',
        encoding="utf-8")
