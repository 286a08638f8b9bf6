"""A stand-in for the package sounddevice: devices, and a stream that calls back from a thread of its own.

Only what `satexport.audio.microphone` uses, with the names and errors of sounddevice 0.5.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from satexport.step import FloatArray


class PortAudioError(Exception):
    """As sounddevice raises it."""


@dataclass
class FakeSoundDevice:
    """Takes the place of the module; `sound` is what the microphone hears before it disappears."""

    sound: FloatArray                       # [samples, channels] at the device's rate
    rate: float = 48_000.0                  # Hz
    mono: bool = True                       # it can capture one channel
    end: str = "gone"                       # then: it is "gone" or "silent" (stays open, delivers nothing)
    last: FloatArray | None = None          # arrives while its state is asked for, as the last
    others: tuple[str, ...] = ()            # names of more microphones
    overflow_at: int | None = None          # number of the block after which samples were lost
    delivered: threading.Event = field(default_factory=threading.Event)
    aborted: int = 0                        # streams
    opened: list[dict[str, Any]] = field(default_factory=list)
    PortAudioError = PortAudioError

    def devices(self) -> list[dict[str, Any]]:
        names = "HDMI", "USB Audio: #0 (hw:1,0)", *self.others
        return [{"index": number, "name": name, "default_samplerate": self.rate,
                 "max_input_channels": self.sound.shape[1] if number else 0}
                for number, name in enumerate(names)]

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices()
        if device is None and self.sound.shape[1]:
            return self.devices()[1]
        if device is None:
            raise PortAudioError("Error querying device -1")
        found = [known for known in self.devices() if known["max_input_channels"] and (
            device == known["index"] or (isinstance(device, str) and device in known["name"]))]
        if len(found) > 1:
            raise ValueError(f"Multiple input devices found for {device!r}")
        if not found:
            raise ValueError(f"No input device matching {device!r}")
        return found[0]

    def check_input_settings(self, *, channels: int, **_: object) -> None:
        if channels == 1 and not self.mono:
            raise PortAudioError("Invalid number of channels [PaErrorCode -9998]")

    def InputStream(self, **options: Any) -> FakeStream:  # noqa: N802
        self.opened.append(options)
        if self.end == "busy":
            raise PortAudioError("Device unavailable [PaErrorCode -9985]")
        return FakeStream(self, options)


class FakeStream:
    """Delivers the sound in blocks, as fast as it can."""

    def __init__(self, source: FakeSoundDevice, options: dict[str, Any]) -> None:
        self._source, self._options = source, options
        self._thread = threading.Thread(target=self._deliver)
        self._active = True

    @property
    def active(self) -> bool:
        if not self._active and self._source.last is not None:
            last, self._source.last = self._source.last, None
            self._options["callback"](last[:, None], len(last), None, SimpleNamespace(input_overflow=False))
        return self._active

    def abort(self) -> None:
        self._source.aborted += 1

    def _deliver(self) -> None:
        callback: Callable[..., None] = self._options["callback"]
        size, channels = self._options["blocksize"], self._options["channels"]
        buffer = np.empty((size, channels), np.float32)  # PortAudio uses its buffers again
        for number, begin in enumerate(range(0, len(self._source.sound), size)):
            part = self._source.sound[begin:begin + size, :channels]
            buffer[:len(part)] = part
            status = SimpleNamespace(input_overflow=number == self._source.overflow_at)
            callback(buffer[:len(part)], len(part), None, status)
            buffer[:] = np.nan
        self._active = self._source.end == "silent"
        self._source.delivered.set()

    def __enter__(self) -> FakeStream:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._source.end == "gone":
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
