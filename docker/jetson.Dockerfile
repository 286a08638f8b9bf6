# Builds engines of TensorRT on a Jetson and runs them there. No PyTorch, no onnx; TensorRT is the base image's.
# The base image says which TensorRT: an engine runs with the version and on the board that built it.
ARG PYTHON_IMAGE=python:3.12-slim
ARG BASE_IMAGE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

# One wheel for every Python: there is nothing compiled in it.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY satexport satexport
COPY targets targets
COPY calibration calibration
RUN pip install --no-cache-dir --constraint constraints.txt hatchling \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${BASE_IMAGE} AS build
# The version of python3-venv is that of the base image's Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
# TensorRT is looked for and not imported: on JetPack 6 some of its libraries come with --runtime nvidia.
RUN python3 -m venv --system-site-packages /opt/satexport \
    && /opt/satexport/bin/python -m pip install --no-cache-dir --constraint /wheels/constraints.txt \
        "$(echo /wheels/satexport-*.whl)[audio]" \
    && /opt/satexport/bin/python -c \
        "from importlib.util import find_spec as f; assert f('tensorrt'), 'no python3-libnvinfer in BASE_IMAGE'"

FROM ${BASE_IMAGE}
COPY --from=build /opt/satexport /opt/satexport
# Everybody may write both folders: the image also runs as whatever --user says. The GPU belongs to video.
RUN useradd --uid 10001 --home-dir /cache --no-create-home --groups video satexport \
    && install --directory --mode 1777 /cache /data
ENV PATH=/opt/satexport/bin:${PATH} HOME=/cache SATEXPORT_CACHE=/cache
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["satexport"]
CMD ["--help"]
