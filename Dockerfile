# docker build -t unroll-style .                          for CPUs
# docker build -t unroll-style:cuda --build-arg TORCH=cu128 .   for NVIDIA cards; run it with --gpus all
FROM python:3.12-slim

# Which build of PyTorch: a folder of download.pytorch.org/whl, "cpu" or a version of CUDA.
ARG TORCH=cpu

# What lies in the folder of pictures is never imported, and compiled kernels have a place whoever runs this.
ENV PYTHONSAFEPATH=1 NUMBA_CACHE_DIR=/tmp/numba

RUN useradd --create-home --uid 1000 artist && install --directory --owner=artist /pictures
WORKDIR /app
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" "torch>=2.4" "torchvision>=0.19"
COPY pyproject.toml README.md LICENSE ./
COPY unroll unroll
COPY graphs graphs
COPY apps apps
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[heif,serve]"

USER 1000
WORKDIR /pictures
ENTRYPOINT ["python", "-m", "apps.style_transfer"]
CMD ["--help"]
