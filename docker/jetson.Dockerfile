# Builds TensorRT engines on a Jetson and runs them there. Without PyTorch and onnx; TensorRT comes with the base image,
# which thus determines its version: an engine only runs with the TensorRT version and on the board that built it.
ARG PYTHON_IMAGE=python:3.12-slim
ARG BASE_IMAGE=nvcr.io/nvidia/l4t-jetpack:r36.4.0

# The wheel is pure Python, so one wheel serves every Python version.
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY satexport satexport
COPY targets targets
COPY calibration calibration
RUN pip install --no-cache-dir --constraint constraints.txt hatchling \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${BASE_IMAGE} AS build
# No version for python3-venv: it must match the base image's Python.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
# Check that TensorRT can be found, without importing it: on JetPack 6 some of its libraries come with --runtime nvidia.
RUN python3 -m venv --system-site-packages /opt/satexport \
    && /opt/satexport/bin/python -m pip install --no-cache-dir --constraint /wheels/constraints.txt \
        "$(echo /wheels/satexport-*.whl)[audio]" \
    && /opt/satexport/bin/python -c \
        "from importlib.util import find_spec as f; assert f('tensorrt'), 'no python3-libnvinfer in BASE_IMAGE'"

FROM ${BASE_IMAGE}
COPY --from=build /opt/satexport /opt/satexport
# Both folders are writable for everyone, so that the image also runs with any --user. The GPU belongs to group video.
RUN useradd --uid 10001 --home-dir /cache --no-create-home --groups video satexport \
    && install --directory --mode 1777 /cache /data
ENV PATH=/opt/satexport/bin:${PATH} HOME=/cache SATEXPORT_CACHE=/cache
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["satexport"]
CMD ["--help"]
