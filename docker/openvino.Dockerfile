# Runs OpenVINO bundles on a CPU, x86-64 or arm64. Without PyTorch and onnx.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY satexport satexport
COPY targets targets
COPY calibration calibration
# constraints.txt has the versions of requirements.lock; it installs nothing by itself. OpenVINO also works without
# its telemetry package, which would send an event at every import.
RUN pip install --no-cache-dir --constraint constraints.txt hatchling \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/satexport \
    && pip --python /opt/satexport/bin/python install --no-cache-dir --constraint constraints.txt \
        "$(echo /wheels/satexport-*.whl)[openvino,audio]" \
    && pip --python /opt/satexport/bin/python uninstall --yes openvino-telemetry

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/satexport /opt/satexport
# Both folders are writable for everyone, so that the image also runs with any --user.
RUN useradd --uid 10001 --home-dir /cache --no-create-home satexport \
    && install --directory --mode 1777 /cache /data
ENV PATH=/opt/satexport/bin:${PATH} HOME=/cache SATEXPORT_CACHE=/cache \
    ORT_DISABLE_TELEMETRY=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["satexport"]
CMD ["--help"]
