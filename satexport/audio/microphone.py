"""Listen to a microphone as mono float32 at any sample rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from satexport.errors import MissingError, RunError, requires_extra
from satexport.terminal import note, shown

BLOCK_SECONDS = 0.1  # captured per call; longer blocks than a device's own cost less CPU time
WAITING_SECONDS = 10  # of sound that wait to be scored at most; what comes then is lost
PATIENCE = 5.0       # s without audio after which a microphone counts as gone
KEPT = "What was heard until then is kept. Connect it again, and start the command again."


class Device(NamedTuple):
    """A microphone as the sound system describes it."""

    number: int
    name: str
    rate: int       # Hz
    channels: int   # to capture


class Captured:
    """What was captured and waits: blocks [samples], each with whether the device lost samples before it."""

    def __init__(self, rate: int) -> None:
        self.blocks: Queue[tuple[NDArray[np.float32], bool]] = Queue(round(WAITING_SECONDS / BLOCK_SECONDS))
        self.lost_seconds = 0.0  # because too much waited
        self._rate = rate

    def keep(self, data: NDArray[np.float32], frames: int, time: object, status: Any) -> None:
        """The callback of a stream; `data` is [samples, channels]."""
        try:
            self.blocks.put_nowait((data.mean(axis=1, dtype=np.float32), bool(status.input_overflow)))
        except Full:
            self.lost_seconds += len(data) / self._rate


def microphone_blocks(device: str, rate: int, tell: Callable[[str], None] = note,
                      patience: float = PATIENCE) -> Iterator[NDArray[np.float32]]:
    """Yield what a microphone hears, without end, in blocks [samples] of about 0.1 s at `rate` Hz. It is
    captured at the device's own rate; channels are averaged.

    `device` is a number or a part of the name of a device of sounddevice; "": the system's default. `tell`
    receives a sentence about the device, and about lost samples. Raises `MissingError` if sounddevice,
    PortAudio or the device is missing, `RunError` if the device cannot be opened, disappears, or delivers
    nothing for `patience` seconds.
    """
    sounddevice, soxr = _import_packages()
    found = _find_device(sounddevice, device)
    captured = Captured(found.rate)
    resampler = soxr.ResampleStream(found.rate, rate, 1, "float32", "HQ") if found.rate != rate else None
    tell(f"Microphone: {found.name}, {found.rate} Hz.")
    try:
        with sounddevice.InputStream(
                device=found.number, channels=found.channels, samplerate=found.rate, dtype="float32",
                blocksize=round(BLOCK_SECONDS * found.rate), callback=captured.keep) as stream:
            try:
                for block in _received(captured, stream, found.name, patience, tell):
                    yield resampler.resample_chunk(block) if resampler else block
            except RunError:
                stream.abort()  # to stop a dead device may take forever
                raise
    except (RunError, sounddevice.PortAudioError) as error:
        if resampler and len(rest := resampler.resample_chunk(np.empty(0, np.float32), last=True)):
            yield rest
        if isinstance(error, RunError):
            raise
        raise RunError(f"the microphone {found.name} cannot be read ({error}). {KEPT}") from None
    finally:
        if captured.lost_seconds:
            tell(f"Lost from the microphone {found.name}, because scoring was too slow: "
                 f"{captured.lost_seconds:.1f} s.")


def _received(captured: Captured, stream: Any, name: str, patience: float,
              tell: Callable[[str], None]) -> Iterator[NDArray[np.float32]]:
    """Yield blocks as they arrive. Raises `RunError` if no more come."""
    waited, has_lost = 0.0, False
    while True:
        is_active = stream.active  # if not, all that will ever come is there
        try:
            block, is_after_loss = captured.blocks.get(is_active, BLOCK_SECONDS)
        except Empty:
            waited += BLOCK_SECONDS
            if not is_active:
                raise RunError(f"the microphone {name} has disappeared. {KEPT}") from None
            if waited >= patience:
                raise RunError(f"the microphone {name} has delivered nothing for {patience:g} s. "
                               f"{KEPT}") from None
            continue
        waited = 0.0
        if (is_after_loss or captured.lost_seconds) and not has_lost:
            tell(f"The microphone {name} lost samples, because this machine was too busy: later times are "
                 "too early by what is missing. (Said only once.)")
            has_lost = True
        yield block


def _import_packages() -> tuple[Any, Any]:
    try:
        with requires_extra("mic"):
            import sounddevice
            import soxr
    except OSError as error:  # sounddevice does not find its C library
        raise MissingError(f"listening to a microphone needs PortAudio ({error}): on Debian, "
                           "apt install libportaudio2.") from None
    return sounddevice, soxr


def _find_device(sounddevice: Any, device: str) -> Device:
    """The device of a name or number, and how to capture it."""
    wanted = int(device) if device.isdecimal() else device or None
    try:
        found = sounddevice.query_devices(wanted, "input")
    except (ValueError, sounddevice.PortAudioError) as error:
        names = [f"{number}: {known['name']}" for number, known in enumerate(sounddevice.query_devices())
                 if known["max_input_channels"]]
        expected = f"expected one of {', '.join(names)}" if names else "this machine has none"
        what = f"no single microphone matches {shown(device)}" if device else "there is no default microphone"
        raise MissingError(f"{what} ({error}); {expected}.") from None
    rate = found["default_samplerate"]
    if not (math.isfinite(rate) and rate >= 1):
        raise RunError(f"the microphone {found['name']} has a sample rate of {rate} Hz; expected another. "
                       "Choose another device.")
    channels = found["max_input_channels"]
    try:
        sounddevice.check_input_settings(device=found["index"], channels=1, dtype="float32", samplerate=rate)
        channels = 1
    except sounddevice.PortAudioError:
        pass  # it has only all channels together
    return Device(found["index"], found["name"], round(rate), channels)
