"""A web bundle in headless Chromium: the very files that ship, served on the loopback address. The step calls
the bundle's own module, so that what is proven is what a page gets."""

from __future__ import annotations

import base64
import weakref
from contextlib import ExitStack
from typing import Any

import numpy as np

from satexport import errors
from satexport.backends.web.browser import Tab, resident_size
from satexport.backends.web.runtime import VERSION
from satexport.backends.web.server import serve_folder
from satexport.backends.web.sizes import brotli_size
from satexport.bundle.folder import Bundle
from satexport.errors import BundleError, RunError, SatexportError
from satexport.remote import Footprint, RemoteStep
from satexport.step import FloatArray, Outputs

ERRORS: dict[str, type[SatexportError]] = {  # by the `kind` of an error of the module
    "audio": errors.AudioError, "bundle": BundleError, "browser": errors.MissingError, "run": RunError,
    "use": errors.UsageError}
DRIVER = """async ({address, threads}) => {
    const attempt = async (call) => {
        try { return await call(); } catch (error) {
            if (!error.kind) throw error;
            return {error: error.kind, message: error.message};
        }
    };
    const toFloats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    const toText = (floats) => {
        const bytes = new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
        let text = '';
        for (let at = 0; at < bytes.length; at += 8192)
            text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return btoa(text);
    };
    return attempt(async () => {
        const {load} = await import(`${address}/satexport.js`);
        const model = await load(address, {threads});
        const streams = new Map();
        let count = 0;
        window.driver = {
            open: () => { streams.set(++count, model.stream({})); return count; },
            close: (ids) => { for (const id of ids) { streams.get(id).close(); streams.delete(id); } },
            reset: (id) => attempt(async () => { await streams.get(id).reset(); return {}; }),
            step: (id, audio) => attempt(async () => {
                const chunk = await streams.get(id).step(toFloats(audio));
                return {outputs: [chunk.scores, chunk.embedding].filter(Boolean).map(toText),
                        milliseconds: chunk.stepMs};
            }),
            memory: () => model.memoryBytes(),
        };
        return {seconds: model.loadSeconds, threads: model.threads};
    });
}"""


class Cache:
    """A stream in the browser, which holds the cache."""

    def __init__(self, number: int) -> None:
        self.number = number


class WebStep(RemoteStep):
    """A bundle in a tab of its own. Raises `MissingError` if Chromium or Playwright is not installed,
    `BundleError` if the page refuses the bundle or its runtime cannot load the graph."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        super().__init__()
        self._bundle, self._dropped = bundle, list[int]()
        with ExitStack() as stack:
            address = stack.enter_context(serve_folder(bundle.path))
            self._tab = Tab(address)
            stack.callback(self._tab.close)
            self._before = {process["id"]: resident_size(process["id"], "VmRSS")
                            for process in self._tab.processes()}
            loaded = self._ask(DRIVER, {"address": address, "threads": threads})
            if loaded["threads"] != threads:
                raise RunError(f"the browser runs {loaded['threads']} of the {threads} threads asked for: "
                               "leave --threads out.")
            self._stack = stack.pop_all()
        self.load_seconds, self.step_seconds = float(loaded["seconds"]), 0.0
        self.runtime = f"ONNX Runtime Web {VERSION} in Chromium {self._tab.version}"
        weakref.finalize(self, self._stack.close)

    def initial_cache(self, streams: int) -> Cache:
        self.check_process()
        assert streams == 1, "`check_contract` allows no other"
        cache = Cache(self._tab.evaluate("() => driver.open()"))
        weakref.finalize(cache, self._dropped.append, cache.number)
        return cache

    def __call__(self, x: FloatArray, cache: Cache) -> tuple[Outputs, Cache]:
        self.check_process()
        self._drop()
        audio = base64.b64encode(x[0].astype("<f4").tobytes()).decode()
        found = self._ask("([id, audio]) => driver.step(id, audio)", [cache.number, audio])
        self.step_seconds = found["milliseconds"] / 1000
        return Outputs(*(np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)[None]
                         for text in found["outputs"])), cache

    def silence(self, cache: Cache, stream: int) -> Cache:
        self._ask("(id) => driver.reset(id)", cache.number)
        return cache

    def executed(self) -> dict[str, dict[str, int]]:
        return {}  # ONNX Runtime Web keeps the precisions of the graph

    def cpu_seconds(self) -> float:
        return float(sum(process["cpuTime"] for process in self._tab.processes()))

    def footprint(self) -> Footprint:
        resident = sum(max(0, resident_size(process["id"], "VmHWM") - self._before.get(process["id"], 0))
                       for process in self._tab.processes())
        return Footprint(resident=resident or None, heap=int(self._tab.evaluate("() => driver.memory()")),
                         download=brotli_size(self._bundle))

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._stack.close()

    def _drop(self) -> None:
        """Free the streams in the browser whose caches Python has collected."""
        if self._dropped:
            numbers = [self._dropped.pop() for _ in range(len(self._dropped))]
            self._tab.evaluate("(ids) => driver.close(ids)", numbers)

    def _ask(self, function: str, argument: object) -> Any:
        """Call a function in the tab and return its result, or raise the error of the module that it
        returns."""
        reply = self._tab.evaluate(function, argument)
        if "error" in reply:
            raise ERRORS.get(reply["error"], RunError)(reply["message"])
        return reply
