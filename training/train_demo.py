"""Train the demo checkpoint: SAT-T at 2 s on ESC-10 folds 1 to 3 and synthetic clips.

    python training/train_demo.py --data /path/to/esc10

Fold 4 is scored once, at the end, with the written file. Do not use that score to choose between runs: use
the synthetic split "calibrate" and a held-out training fold instead. Writes --output (weights in fp16,
buffers in fp32, with the published key names) and a .json with the same stem.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from satexport.audio.datasets import LabelledSet, load_set
from satexport.audio.labels import audioset_labels
from satexport.audio.synthetic import SPLITS, synthetic_clip
from satexport.files import sha256_of
from satexport.models.sat.family import DEMOS, VARIANTS
from satexport.models.sat.network import Block, Transformer
from satexport.parity.metrics import average_precisions

VARIANT = VARIANTS["sat-t", 2]
CHUNK = VARIANT.hop_samples
CROP_CHUNKS = 2            # a crop is 4 s: two chunks with the cache carried
STATISTICS_CLIPS = 600     # synthetic clips for the statistics of the batch norm
ESC_REPEATS = 2            # crops of each ESC-10 clip per epoch
SYNTHETIC_SHARE = 0.75     # synthetic crops per ESC-10 crop
BATCH, LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 32, 5e-4, 0.05, 0.08  # warm-up: share of all steps
GAIN_DB, MIXUP, DROP_PATH = (-15.0, 6.0), 0.4, 0.1
TIME_MASK, BAND_MASK = 40, 12  # largest number of frames and of mel bands that are masked
Pool = list[tuple[Tensor, Tensor]]  # audio [samples], truth [527]


def make_example(audio: np.ndarray, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(audio), torch.tensor([float(x in names) for x in audioset_labels()])


def make_clips(first: int, count: int) -> Pool:
    """Synthesize `count` training clips from index `first` on; every epoch uses new ones."""
    seconds = CROP_CHUNKS * VARIANT.delay
    return [make_example(*synthetic_clip("train", first + number, seconds, rate=VARIANT.sample_rate))
            for number in range(count)]


def initialize(model: Transformer, pool: Pool) -> None:
    """Initialize with small weights, scores near zero, and the batch norm's statistics of the clips."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    nn.init.constant_(cast(nn.Linear, model.outputlayer[1]).bias, -5.0)
    with torch.inference_mode():
        mel = torch.cat([model.front_end(audio[None])[0] for audio, _ in pool], dim=1)
    norm = cast(nn.BatchNorm2d, model.init_bn[1])
    norm.running_mean, norm.running_var = mel.mean(1), mel.var(1)


def add_drop_path(model: Transformer, rng: torch.Generator) -> list[Any]:
    """Drop whole residual branches of single samples, more often in later blocks. Returns the hooks."""
    def drop(rate: float, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output * (torch.rand(len(output), 1, 1, generator=rng) >= rate) / (1 - rate)
    last = len(model.blocks) - 1
    return [branch.register_forward_hook(partial(drop, DROP_PATH * number / last))
            for number, block in enumerate(cast(list[Block], model.blocks))
            for branch in (block.attn, block.mlp)]


def draw_batch(pool: Pool, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops [B, samples] of these clips, rolled in time, with random gain and sign, mixed in pairs
    (mixup)."""
    crops = []
    for audio, _ in pool:
        rolled = torch.roll(audio, int(rng.integers(len(audio))))[:CROP_CHUNKS * CHUNK]
        gain = rng.choice([-1.0, 1.0]) * 10 ** (rng.uniform(*GAIN_DB) / 20)
        crops.append((rolled * gain).clamp(-1, 1))
    share = torch.from_numpy(rng.beta(MIXUP, MIXUP, (len(pool), 1))).float()
    partner = torch.from_numpy(rng.permutation(len(pool)))
    unmixed = torch.stack(crops), torch.stack([truth for _, truth in pool])
    audio, truth = (share * x + (1 - share) * x[partner] for x in unmixed)
    return audio, truth


def mask(mel: Tensor, fill: Tensor, rng: np.random.Generator) -> Tensor:
    """Replace a range of frames and a range of bands of each sample [B, 64, F] by `fill` [64]
    (SpecAugment)."""
    masked = torch.zeros_like(mel, dtype=torch.bool)
    for row in masked:
        frames, bands = rng.integers(TIME_MASK + 1), rng.integers(BAND_MASK + 1)
        frame, band = rng.integers(mel.shape[2] - frames), rng.integers(mel.shape[1] - bands)
        row[:, frame:frame + frames] = True
        row[band:band + bands] = True
    return torch.where(masked, fill[:, None], mel)


def batch_loss(model: Transformer, audio: Tensor, truth: Tensor, cache: Tensor,
               rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The loss over the chunks of the crops, and the final cache, detached from the gradient."""
    loss = torch.zeros(())
    state: Tensor | None = cache
    mean = cast(Tensor, model.init_bn[1].running_mean)
    for chunk in audio.view(len(audio), CROP_CHUNKS, CHUNK).unbind(1):
        mel = model.front_end(chunk)[..., :VARIANT.chunk_frames]
        with torch.autocast("cpu", torch.bfloat16):  # the front end stays in float32
            logits, state = model.logits(mask(mel, mean, rng), state)
        loss = loss + F.binary_cross_entropy_with_logits(logits.float(), truth) / CROP_CHUNKS
    return loss, cast(Tensor, state).detach()


def train(model: Transformer, real: Pool, epochs: int, seed: int) -> int:
    """Train in place; returns the number of synthetic clips used."""
    rng = np.random.default_rng(seed)
    hooks = add_drop_path(model, torch.Generator().manual_seed(seed))
    synthetic = round(SYNTHETIC_SHARE * ESC_REPEATS * len(real))
    steps = (ESC_REPEATS * len(real) + synthetic) // BATCH
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=epochs * steps, pct_start=WARM_UP, cycle_momentum=False)
    cache: Tensor | None = None
    for epoch in range(epochs):
        start, losses = time.time(), []
        clips = real * ESC_REPEATS + make_clips(epoch * synthetic, synthetic)
        order = rng.permutation(len(clips))[:steps * BATCH].reshape(steps, BATCH)
        for batch in order:
            audio, truth = draw_batch([clips[i] for i in batch], rng)
            if cache is None or rng.random() < 0.5:  # otherwise continue the stream of the last batch
                cache = cast(Tensor, model.silence_cache()).detach().expand(-1, BATCH, -1, -1)
            loss, cache = batch_loss(model, audio, truth, cache, rng)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.5f}, "
              f"{time.time() - start:.1f} s", flush=True)
    for hook in hooks:
        hook.remove()
    return epochs * synthetic


@torch.inference_mode()
def score_clips(model: Transformer, clips: LabelledSet) -> np.ndarray:
    """Scores [clips, 527]: each clip is streamed from silence, the last chunk padded, the chunks averaged."""
    scores = []
    for clip in clips.clips:
        audio = torch.from_numpy(clip.read(VARIANT.sample_rate))
        cache, chunks = model.silence_cache(), []
        for chunk in F.pad(audio, (0, -len(audio) % CHUNK)).view(-1, 1, CHUNK):
            score, cache = model(chunk, cache)
            chunks.append(score[0])
        scores.append(torch.stack(chunks).mean(0).numpy())
    return np.stack(scores)


def evaluate(model: Transformer, clips: LabelledSet, labels: tuple[str, ...]) -> dict[str, Any]:
    precisions = average_precisions(clips.truth(labels), score_clips(model, clips), labels)
    return {"clips": len(clips.clips), "streamed_mAP": round(float(np.mean([*precisions.values()])), 4),
            "average_precision": {name: round(value, 4) for name, value in precisions.items()}}


def write(model: Transformer, path: Path) -> None:
    buffers = {name for name, _ in model.named_buffers()}
    tensors = {name: (value if name in buffers else value.half()).contiguous()
               for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata={"model": VARIANT.model, "delay": str(VARIANT.delay)})
    path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="ESC-10 in ESC-50 layout")
    parser.add_argument("--output", type=Path, default=DEMOS[VARIANT.name])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(2)
    start, labels = time.time(), audioset_labels()
    esc = load_set(arguments.data, labels, folds=[1, 2, 3])
    gate = load_set(arguments.data, labels, folds=[4])  # its audio is not read before the end
    real = [make_example(clip.read(VARIANT.sample_rate), clip.labels) for clip in esc.clips]
    model = Transformer(VARIANT).eval()  # also while training, so that the batch norm keeps its statistics
    initialize(model, real + make_clips(0, STATISTICS_CLIPS))
    synthetic_count = train(model, real, arguments.epochs, arguments.seed)
    minutes = round((time.time() - start) / 60, 1)
    write(model, arguments.output)
    model.load_state_dict(load_file(arguments.output))  # score the shipped weights, in fp16
    report = {
        "model": VARIANT.name, "sha256": sha256_of(arguments.output),
        "real": esc.origin | {"freesound_ids": " ".join(c.name.split("-")[1] for c in esc.clips)},
        "synthetic": {"split": "train", "clips": synthetic_count, "first_seed": SPLITS["train"][0]},
        "scores": {"esc10 fold 4": evaluate(model, gate, labels),
                   "synthetic evaluate": evaluate(model, load_set("synthetic", labels), labels)},
        "protocol": "streamed from silence, last chunk zero-padded, chunk scores averaged",
        "seed": arguments.seed, "epochs": arguments.epochs, "minutes": minutes,
        "command": " ".join(["python", *sys.argv]),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                     "numpy": np.__version__}}
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(report["scores"])


if __name__ == "__main__":
    main()
