"""JavaScript of a web bundle in a page of the tests' browser."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

HELPERS = """
    window.floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    window.toText = (array) => {
        const bytes = new Uint8Array(array.slice().buffer);
        let text = '';
        for (let at = 0; at < bytes.length; at += 8192)
            text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        return btoa(text);
    };
    window.attempt = async (call) => {
        try {
            await call();
            return null;
        } catch (error) {
            return {kind: error.kind, message: error.message};
        }
    };
"""


class Tab:
    """A page of a bundle's server that shows no page of the bundle, so that a test runs only what it imports.
    Its scripts have `floats(text)` for what `to_text` returns, `toText(array)` for `floats`, and
    `attempt(call)`, which returns the kind and message of an error."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.page.add_init_script(HELPERS)
        self.page.goto(f"{address}/labels.txt")

    def run(self, body: str, argument: object = None) -> Any:
        """Run the body of an asynchronous function of `given`, and return its result."""
        return self.page.evaluate(f"async (given) => {{ {body} }}", argument)


def to_text(samples: NDArray[np.float32]) -> str:
    return base64.b64encode(samples.astype("<f4").tobytes()).decode()


def floats(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4")
