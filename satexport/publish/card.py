"""The model card, `README.md`: a head in YAML for the Hub, and a text for people. Every figure in it is from
a report of its bundles; what satexport does not know is said to be missing, not guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from satexport.bundle.contract import ANY, Contract, TensorSpec, cache_bytes
from satexport.bundle.roles import ATTENTION
from satexport.files import PACKAGE_FOLDER
from satexport.memory import MB
from satexport.publish.figures import describe_accuracy, describe_speed
from satexport.publish.layout import AUDIO, CONFIG, INITIAL_CACHE, LABELS, REPORTS, golden_file
from satexport.publish.licence import Source
from satexport.publish.origins import (
    describe_data,
    describe_licence,
    describe_origin,
    has_audioset_labels,
)
from satexport.publish.parts import UNPROVEN, Part
from satexport.publish.snippets import javascript_program, python_program
from satexport.report.markdown import to_markdown
from satexport.version import __version__

TASK = "audio-classification"   # of the Hub
TAGS = ("audio-tagging", "sound-event-detection", "streaming", "onnxruntime", "transformers.js",
        "satexport")
EXACT = """options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession("{}", options, providers=["CPUExecutionProvider"])
"""
EXACT_JS = "session_options: {extra: {session: {x64quantprecision: '1'}}}"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card is made from, besides the bundles."""

    source: Source
    sizes: dict[str, int]   # of the files in the folder, bytes
    usual: str              # precision that transformers.js takes if none is named

    @property
    def repository(self) -> str:
        """What stands for the name of the repository, which is not known."""
        return "OWNER/REPO"


def card_text(parts: Sequence[Part], facts: CardFacts) -> str:
    """Return the content of README.md."""
    contract = parts[0].bundle.contract
    sections = {
        "": _introduction(parts), "Files": _files(parts, facts),
        "Inputs and outputs": _interface(contract), "How to run it": _programs(parts, facts),
        "Training data": describe_data(parts, facts.source),
        "Accuracy": describe_accuracy(parts), "Speed and memory": describe_speed(parts),
        "Limits": _limits(parts),
        "Licence": describe_licence(contract, parts[0].bundle.labels, facts.source),
        "Where it comes from": describe_origin(parts)}
    texts = {title: "\n\n".join(text.strip("\n") for text in texts)
             for title, texts in sections.items()}
    return _head(parts, facts.source) + "".join(
        f"\n## {title}\n\n{text}\n" if title else f"{text}\n" for title, text in texts.items() if text)


def _head(parts: Sequence[Part], source: Source) -> str:
    """The YAML in front of the card. A JSON string is a string of YAML, too."""
    licence, contract = source.licence, parts[0].bundle.contract
    lines = [f"license: {licence.identifier}"]
    if licence.identifier == "other" and licence.is_known:
        lines.append(f"license_name: {json.dumps(licence.name.lower())}")
    lines += ["library_name: onnx", f"pipeline_tag: {TASK}", "tags:"]
    lines += [f"- {tag}" for tag in (*TAGS, contract.family)]
    if source.base_model:
        lines.append(f"base_model: {json.dumps(source.base_model)}")
        if all(part.precision != "fp32" for part in parts):
            lines.append("base_model_relation: quantized")
    return "\n".join(("---", *lines, "---", "", ""))


def _introduction(parts: Sequence[Part]) -> Iterator[str]:
    contract = parts[0].bundle.contract
    yield f"# {contract.variant}"
    if contract.has_random_weights:
        yield ("> **The weights are random.** Nobody trained this model: its scores mean nothing. It is for "
               "measuring the time and the memory that a model of this size needs.")
    if contract.checkpoint.source == "demo":
        yield ("> This is the demo checkpoint of satexport. It was trained on few recordings, for trying the "
               "tool, and is not for use.")
    for part in parts:
        if part.verdict != "passed":
            what = ("**failed its gates**, see [Accuracy](#accuracy)" if part.verdict == "failed" else
                    f"is **{UNPROVEN}**: no report compares it with PyTorch")
            yield f"> The {part.precision} graph {what}."
    graphs = " and ".join(part.precision for part in parts)
    cache = " The cache is an explicit input and output of the graph." if contract.cache_in else ""
    yield (f"An audio tagger for streams. It scores {contract.classes} classes of sounds in "
           f"{contract.streaming}. ONNX, {graphs}: waveform in, scores out; the log-mel front end is part of "
           f"the graph.{cache}")
    if contract.embedding:
        yield (f"It also returns an embedding of each {'window' if contract.history_samples else 'chunk'}: "
               f"{contract.embedding_text}.")
    yield f"Made by satexport {__version__}."


def _files(parts: Sequence[Part], facts: CardFacts) -> Iterator[str]:
    contract = parts[0].bundle.contract
    rows = [(part.file, f"the graph in {part.precision}, with its weights") for part in parts]
    if contract.cache_in:
        rows.append((INITIAL_CACHE, f"the cache of one stream after silence: the tensors in the order of "
                     f"`{CONFIG}`, {_plain(contract.cache_in[0])}, one after the other"))
    rows += [(LABELS, "one class per line, in the order of the scores"),
             (CONFIG, "labels, names and shapes of all inputs and outputs, the SHA-256 of the files"),
             (AUDIO, f"golden chunks: consecutive chunks of {contract.hop_seconds:g} s of one stream that "
              "begins after silence")]
    rows += [(golden_file(spec), f"PyTorch's {spec.name} for them, {_plain(spec)}, "
              f"[chunks, {spec.shape[1]}]") for spec in contract.outputs]
    lines = ["| file | MB | what it is |", "| ---- | ---: | ---------- |"]
    lines += [f"| `{name}` | {_megabytes(facts.sizes.get(name))} | {what} |" for name, what in rows]
    if any(name.startswith(f"{REPORTS}/") for name in facts.sizes):
        lines.append(f"| `{REPORTS}/` | | what is known of each graph from its comparison with PyTorch and "
                     "its measurement, as JSON |")
    yield "\n".join(lines)


def _plain(spec: TensorSpec) -> str:
    return f"{spec.dtype}, little-endian, without a header"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / MB:.2f}"


def _interface(contract: Contract) -> Iterator[str]:
    first = "N" if contract.options.streams == ANY else "1"
    specs = [(contract.input, _what_is_input(contract)),
             (contract.scores, "output: a score from 0 to 1 for each class, independent of each other")]
    if contract.embedding:
        specs.append((contract.embedding, f"output: the embedding ({contract.options.embedding})"))
    rows = [(spec.name, spec, what) for spec, what in specs]
    for specs_of, what in ((contract.cache_in, "inputs: the cache"),
                           (contract.cache_out, "outputs: the cache for the next chunk")):
        if specs_of:
            names = specs_of[0].name + (f" ... {specs_of[-1].name}" if len(specs_of) > 1 else "")
            rows.append((names, specs_of[0], what))
    lines = ["| tensor | shape | dtype | what it is |", "| ------ | ----- | ----- | ---------- |"]
    lines += [f"| `{name}` | {', '.join((first, *map(str, spec.shape[1:])))} | {spec.dtype} | {what} |"
              for name, spec, what in rows]
    yield "\n".join(lines)
    if len({spec.shape for spec in contract.cache_in}) > 1:
        yield f"The shapes of the other caches are in `{CONFIG}`."
    if contract.options.streams == ANY:
        yield "N is the number of streams in a step: any number. None of them affects another."
    if contract.cache_in:
        size = cache_bytes(contract.cache_in) / MB
        yield (f"A stream begins with `{INITIAL_CACHE}`, not with zeros; then each step takes the cache that "
               f"the step before returned ({size:.2f} MB for each stream). The scores depend on the last "
               f"{contract.memory_steps} chunks before the current one, and on nothing older.")


def _what_is_input(contract: Contract) -> str:
    rate, seconds = contract.sample_rate, contract.window_seconds
    window = (f"the last {seconds:g} s, moved on by {contract.hop_samples} samples for each step; before a "
              "stream began they are zeros") if contract.history_samples else f"the next {seconds:g} s"
    return f"input: mono waveform at {rate} Hz in [-1, 1], {window}"


def _programs(parts: Sequence[Part], facts: CardFacts) -> Iterator[str]:
    contract = parts[0].bundle.contract
    yield (f"Download the folder (`hf download {facts.repository} --local-dir {contract.variant}`) and start "
           "these programs in it. They run the golden chunks and compare the scores with PyTorch's. For your "
           f"own audio: mix it to mono, resample it to {contract.sample_rate} Hz well (as soxr does), and "
           f"cut it into chunks of {contract.hop_samples} samples.")
    files = [f"`{part.file}`" for part in parts[1:]]
    yield f"In Python (`pip install numpy onnxruntime`){', or with '.join(['', *files])}:"
    yield f"```python\n{python_program(contract, parts[0].file)}```"
    yield "In Node.js (`npm install @huggingface/transformers`; save it as `run.mjs`):"
    yield f"```js\n{javascript_program(contract, parts[0].precision)}```"
    others = [f"`dtype: '{part.precision}'`" for part in parts[1:]]
    choice = f" Other graphs: {', '.join(others)}." if others else ""
    yield (f"transformers.js warns of an unknown model class, which is harmless.{choice} Without `dtype` "
           f"it takes {facts.usual}. In a browser, pass `{facts.repository}` in place of the folder, and "
           f"fetch `{INITIAL_CACHE if contract.cache_in else LABELS}` from "
           f"`https://huggingface.co/{facts.repository}/resolve/main/`. There is no `pipeline` for it: the "
           "input is a waveform" + (", and the cache must be carried." if contract.cache_in else "."))


def _limits(parts: Sequence[Part]) -> Iterator[str]:
    """What its user must know, as a list."""
    bundles = [part.bundle for part in parts]
    contract, limits = bundles[0].contract, []
    limits.append("The scores are not calibrated for your sounds and microphone: choose thresholds on "
                  "recordings of your own.")
    limits.append("Poor resampling, loud clipping and lossy codecs change the scores.")
    if contract.cache_in:
        limits.append("A chunk that is left out or repeated changes the scores of the "
                      f"{contract.memory_steps} chunks after it. After a gap, begin a new stream.")
    limits += [limit for part in parts for limit in _int8_limits(part)]
    for part in parts:
        if part.export and part.export.caution:
            limits.append(_sentence(part.export.caution))
    yield "\n".join(f"- {limit}" for limit in dict.fromkeys(limits))


def _int8_limits(part: Part) -> Iterator[str]:
    """What a user of an int8 graph must know about processors."""
    int8 = part.bundle.target.quantization
    if not int8:
        return
    yield "int8 is for CPUs and for WebAssembly; on GPUs take another graph."
    if int8.weight_bits == 8:
        attention = (" That of attention does so nevertheless."
                     if ATTENTION in int8.operators and int8.method == "static" else "")
        lines = ("```python", *EXACT.format(part.file).splitlines(), "```")
        yield ("int8: on x86 CPUs without VNNI, sums of products saturate in ONNX Runtime and change the "
               f"scores, unless the session is made in another way.{attention} In transformers.js pass "
               f"`{EXACT_JS}` beside `dtype`; in Python:\n\n" + "\n".join(f"  {line}" for line in lines))


def _sentence(text: str) -> str:
    """A sentence from a report as Markdown."""
    return to_markdown([text]).strip()


def attribution_file(contract: Contract, labels: Sequence[str]) -> Path | None:
    """Return the file of the package that attributes the work of others in the folder; None if there is
    none."""
    if contract.checkpoint.source == "demo" or has_audioset_labels(labels):
        return PACKAGE_FOLDER / "data" / "ATTRIBUTION.md"
    return None
