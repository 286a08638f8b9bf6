"""The files of a folder for the Hub, and their names.

    config.json         what transformers.js reads; under "satexport" the contract, and the SHA-256 of files
    onnx/model.onnx     the fp32 graph with its weights; model_int8.onnx the int8 graph, and so on
    initial_cache.bin   if the model has a cache: the caches of one stream after silence, in the order of
                        config.json, each row by row, little-endian, without a header
    labels.txt          one class per line, in the order of the scores
    golden/audio.wav    consecutive chunks of one stream, 16-bit PCM
    golden/scores.bin   PyTorch's scores for them, float32 [chunks, classes], little-endian, without a
                        header; embedding.bin likewise
    reports/PRECISION/  the reports about the graph of that precision
    README.md           the model card
    ATTRIBUTION.md      if the folder has something of others that must be attributed
"""

from __future__ import annotations

from satexport.bundle.contract import TensorSpec
from satexport.bundle.folder import LABELS as BUNDLE_LABELS

CONFIG = "config.json"
CARD = "README.md"
LABELS = BUNDLE_LABELS
INITIAL_CACHE = "initial_cache.bin"
AUDIO = "golden/audio.wav"
ATTRIBUTION = "ATTRIBUTION.md"
REPORTS = "reports"
SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_int8"}
# precision, which is also the dtype of transformers.js -> end of the file name that it looks for
# (https://huggingface.co/docs/transformers.js/guides/dtypes)
MAX_GRAPH = 2_000_000_000  # bytes of a graph with its weights; a protocol buffer ends at 2 GiB


def graph_file(precision: str) -> str:
    """Return the path of the graph of a precision, a key of SUFFIXES."""
    return f"onnx/model{SUFFIXES[precision]}.onnx"


def golden_file(output: TensorSpec) -> str:
    """Return the path of PyTorch's values of an output for the golden chunks."""
    return f"golden/{output.name}.bin"
