"""The module's SHA-256, for pages without `crypto.subtle`, and its reader of numpy's files."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.backends.web.tab import Tab

LENGTHS = (*range(130), 1000, 4095, 65_536, 1_000_003)  # bytes


@pytest.fixture(scope="module")
def tab(browser: Any, web_bundle: str) -> Iterator[Tab]:
    context = browser.new_context()
    yield Tab(context, web_bundle)
    context.close()


def test_the_modules_sha256_is_sha256(tab: Tab) -> None:
    content = np.random.default_rng(0).bytes(LENGTHS[-1])
    found = tab.run("""
        const {sha256} = await import('/sha256.js');
        const content = Uint8Array.from(atob(given.content), (c) => c.charCodeAt(0));
        return given.lengths.map((length) => sha256(content.subarray(0, length)));
    """, {"content": base64.b64encode(content).decode(), "lengths": LENGTHS})
    assert found == [hashlib.sha256(content[:length]).hexdigest() for length in LENGTHS]


def read(tab: Tab, content: bytes, function: str) -> Any:
    """The arrays in a file as [name, type, shape, numbers], or the message of the error."""
    return tab.run("""
        const npy = await import('/npy.js');
        const content = Uint8Array.from(atob(given.content), (c) => c.charCodeAt(0));
        try {
            const found = await npy[given.function](content);
            const arrays = given.function === 'readNpz' ? found : {'': found};
            return Object.entries(arrays).map(([name, {data, shape}]) =>
                [name, data.constructor.name, shape, Array.from(data)]);
        } catch (error) { return error.message; }
    """, {"content": base64.b64encode(content).decode(), "function": function})


def saved(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


ARRAYS: dict[str, NDArray[Any]] = {
    "audio": np.arange(-6, 6, dtype=np.int16).reshape(3, 4), "scores": np.array([0.25], np.float32),
    "empty": np.zeros((0, 5), np.float32)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_is_read_as_numpy_wrote_it(tab: Tab, save: Callable[..., None]) -> None:
    file = io.BytesIO()
    save(file, **ARRAYS)
    types = {"int16": "Int16Array", "float32": "Float32Array"}
    assert read(tab, file.getvalue(), "readNpz") == [
        [name, types[str(array.dtype)], list(array.shape), array.ravel().tolist()]
        for name, array in ARRAYS.items()]


def test_a_scalar_of_no_dimension_is_read(tab: Tab) -> None:
    assert read(tab, saved(np.array(2.5, np.float32)), "readNpy") == [["", "Float32Array", [], [2.5]]]


@pytest.mark.parametrize(("content", "function", "message"), [
    (saved(np.zeros(3)), "readNpy", "expected float32 or int16 in C order"),
    (saved(np.asfortranarray(np.zeros((2, 3), np.float32))), "readNpy", "expected float32 or int16"),
    (saved(np.zeros(3, np.float32))[:-1], "readNpy", "it has 11 bytes of numbers, not 12"),
    (b"PK", "readNpy", "does not start like an .npy file"),
    (b"nothing", "readNpz", "it is not a zip file")])
def test_another_file_is_refused(tab: Tab, content: bytes, function: str, message: str) -> None:
    assert message in read(tab, content, function)
