"""Send requests to a server and print the answers as JSON; runs in the environment of the server's client.

    python client.py ADDRESS < requests.json

The input is a list of rounds; a round is a list of requests that are sent at the same time, with the keys
model, shape, sequence (none: absent), start, end, first and last (samples; the others are 0) and count
(scores to print). An answer is {"scores": [...]} or {"error": "..."}.
    python client.py --check FILE...     parse each as the server's configuration of a model, print it as JSON
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


def check(paths: list[str]) -> list[Any]:
    """The files as JSON, read by tritonclient's own message."""
    from google.protobuf import json_format, text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return [json_format.MessageToDict(text_format.Parse(open(path, encoding="utf-8").read(), ModelConfig()),
                                      preserving_proto_field_name=True) for path in paths]


def run(address: str, rounds: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Send the rounds one after another."""
    from tritonclient import grpc

    client = grpc.InferenceServerClient(address)

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        audio = np.zeros(request["shape"], np.float32)
        audio.flat[0], audio.flat[-1] = request.get("first", 0), request.get("last", 0)
        tensor = grpc.InferInput("audio", request["shape"], "FP32")
        tensor.set_data_from_numpy(audio)
        flags = {"sequence_id": request["sequence"], "sequence_start": request.get("start", False),
                 "sequence_end": request.get("end", False)} if "sequence" in request else {}
        try:
            answer = client.infer(request["model"], [tensor], **flags)
        except grpc.InferenceServerException as error:
            return {"error": str(error)}
        return {"scores": answer.as_numpy("scores")[0, :request["count"]].tolist()}

    with ThreadPoolExecutor(max(map(len, rounds))) as pool:
        return [list(pool.map(ask, requests)) for requests in rounds]


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        print(json.dumps(check(sys.argv[2:])))
    else:
        print(json.dumps(run(sys.argv[1], json.load(sys.stdin))))
