"""The peers and the models that they run: to add a peer, write its class into a file of this folder, and add
its line here. A peer that reports its use to its maker cannot be one (MNN's tools do)."""

from __future__ import annotations

from benchmarks.peers.executorch import ExecuTorch
from benchmarks.peers.naive import NaiveOnnxRuntime, NaiveOpenVino
from benchmarks.peers.ours import Ours
from benchmarks.peers.peer import Case, Peer
from benchmarks.peers.pytorch import Compiled, Eager
from benchmarks.peers.tract import Tract

PEERS: dict[str, Peer] = {peer.name: peer for peer in (
    Eager(),
    Compiled("fp32"),
    Compiled("bf16"),
    NaiveOnnxRuntime("fp32"),
    NaiveOnnxRuntime("int8"),
    NaiveOpenVino("fp32"),
    NaiveOpenVino("bf16"),
    NaiveOpenVino("int8"),
    ExecuTorch(),
    Tract(),
    Ours("cpu-fp32"),
    Ours("cpu-int8"),
    Ours("openvino-fp32"),
    Ours("openvino-bf16"),
    Ours("openvino-int8"),
)}
CASES = {case.model: case for case in (
    Case(model="sat-t", delay=2, checkpoint="demo"),
    Case(model="sat-s", delay=2, checkpoint="random"),
    Case(model="sat-b", delay=2, checkpoint="random"),
    Case(model="vit-s", delay=2, checkpoint="random"),
    Case(model="ced-tiny", delay=10, checkpoint="random"),
    Case(model="ced-base", delay=10, checkpoint="random"),
)}
