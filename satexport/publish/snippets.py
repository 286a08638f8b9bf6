"""The programs of the model card: each reads the golden chunks from the folder, carries the cache or the
window from chunk to chunk, prints the strongest labels, and compares the scores with PyTorch's."""

from __future__ import annotations

from collections.abc import Iterable

from satexport.bundle.contract import Contract
from satexport.publish.layout import AUDIO, INITIAL_CACHE, LABELS, golden_file
from satexport.step import PCM_SCALE

NUMPY = {"float32": "<f4", "float16": "<f2", "int8": "i1"}   # dtype of a cache -> that of its file
ARRAYS = {"float32": "Float32Array", "float16": "Uint16Array", "int8": "Int8Array"}
WAV_HEADER = 44   # bytes, of a file of 16-bit PCM with nothing but sound
TOP = 3           # labels that the programs print


def python_program(contract: Contract, graph: str) -> str:
    """Return a program for ONNX Runtime that runs `graph`, a path in the folder."""
    hop, window, scores = contract.hop_samples, contract.window_samples, golden_file(contract.scores)
    cache, history = bool(contract.cache_in), bool(contract.history_samples)
    dtype = NUMPY[contract.cache_in[0].dtype] if cache else ""
    return _join([
        ("import json", cache), "import wave", "from pathlib import Path", "",
        "import numpy as np", "import onnxruntime", "",
        f'session = onnxruntime.InferenceSession("{graph}", providers=["CPUExecutionProvider"])',
        "outputs = [output.name for output in session.get_outputs()]",
        f'labels = Path("{LABELS}").read_text("utf-8").split("\\n")', "",
        *_if(cache, [
            "# the cache after silence: a new stream begins with it, not with zeros",
            'specs = json.loads(Path("config.json").read_text("utf-8"))["satexport"]["cache"]',
            f'values, cache = np.fromfile("{INITIAL_CACHE}", "{dtype}"), {{}}',
            "for spec in specs:",
            '    size = np.prod(spec["shape"])',
            '    cache[spec["input"]], values = values[:size].reshape(spec["shape"]), values[size:]', ""]),
        f'with wave.open("{AUDIO}") as file:   # {contract.sample_rate} Hz, mono, 16 bits',
        f'    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32({PCM_SCALE})',
        *_if(history, [f"window = np.zeros((1, {window}), np.float32)   # a new stream begins with silence"]),
        "found = []",
        f"for chunk in samples.reshape(-1, 1, {hop}):",
        *_if(history, [f"    window = np.concatenate((window[:, {hop}:], chunk), axis=1)"]),
        f'    inputs = {{"{contract.input.name}": {"window" if history else "chunk"}'
        f'{", **cache" if cache else ""}}}',
        "    out = dict(zip(outputs, session.run(None, inputs)))",
        ('    cache = {spec["input"]: out[spec["output"]] for spec in specs}', cache),
        f'    scores = out["{contract.scores.name}"][0]',
        "    found.append(scores)",
        f"    print([(labels[i], round(float(scores[i]), 3)) for i in np.argsort(-scores)[:{TOP}]])",
        "",
        f'expected = np.fromfile("{scores}", "<f4").reshape(len(found), -1)',
        'print("largest difference from PyTorch:", np.abs(np.stack(found) - expected).max())'])


def javascript_program(contract: Contract, precision: str) -> str:
    """Return a program for transformers.js in Node.js, a module, that runs the graph of a precision."""
    hop, window, scores = contract.hop_samples, contract.window_samples, golden_file(contract.scores)
    cache, history = bool(contract.cache_in), bool(contract.history_samples)
    kind = contract.cache_in[0].dtype if cache else ""
    audio = f"new Tensor('float32', {'window' if history else 'chunk'}, [1, {window}])"
    return _join([
        "import {readFileSync} from 'node:fs';",
        "import {AutoModel, Tensor} from '@huggingface/transformers';", "",
        "const read = (name) => new Uint8Array(readFileSync(name)).buffer;",
        f"const model = await AutoModel.from_pretrained(process.cwd(), {{dtype: '{precision}'}});",
        "const labels = model.config.id2label;", "",
        *_if(cache, [
            "// the cache after silence: a new stream begins with it, not with zeros",
            "const specs = model.config.satexport.cache;",
            f"const values = new {ARRAYS.get(kind)}(read('{INITIAL_CACHE}'));",
            "const cache = {};",
            "let at = 0;",
            "for (const {input, shape} of specs) {",
            "  const size = shape.reduce((a, b) => a * b, 1);",
            f"  cache[input] = new Tensor('{kind}', values.slice(at, at += size), shape);",
            "}", ""]),
        f"const pcm = new Int16Array(read('{AUDIO}').slice({WAV_HEADER}));   "
        f"// {contract.sample_rate} Hz, mono, 16 bits",
        f"const expected = new Float32Array(read('{scores}'));",
        *_if(history, [f"const window = new Float32Array({window});   // a new stream begins with silence"]),
        "let largest = 0;",
        f"for (let n = 0; n < pcm.length / {hop}; n++) {{",
        f"  const chunk = Float32Array.from(pcm.subarray(n * {hop}, (n + 1) * {hop}), "
        f"(x) => x / {PCM_SCALE});",
        *_if(history, [f"  window.copyWithin(0, {hop});", f"  window.set(chunk, {window - hop});"]),
        f"  const out = await model({{{contract.input.name}: {audio}{', ...cache' if cache else ''}}});",
        ("  for (const {input, output} of specs) cache[input] = out[output];", cache),
        f"  const scores = out.{contract.scores.name}.data;",
        "  const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a]);",
        f"  const strongest = order.slice(0, {TOP}).map((i) => `${{labels[i]}} ${{scores[i].toFixed(3)}}`);",
        "  console.log(strongest.join(', '));",
        "  scores.forEach((score, i) => {",
        "    largest = Math.max(largest, Math.abs(score - expected[n * scores.length + i]));",
        "  });",
        "}",
        "console.log('largest difference from PyTorch:', largest);"])


def _if(is_needed: bool, lines: Iterable[str]) -> Iterable[str]:
    return lines if is_needed else ()


def _join(lines: Iterable[str | tuple[str, bool]]) -> str:
    """Join lines; one with a condition only if it is true."""
    kept = (line if isinstance(line, str) else line[0] for line in lines if isinstance(line, str) or line[1])
    return "".join(f"{line}\n" for line in kept)
