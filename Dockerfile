# The one image of the operator and of the external processor:
#   docker build --tag thruway/thruway .
# BASE is any image with python3 3.11 or newer, its venv module and CA certificates.
ARG BASE=python:3.13-slim

# What we depend on, in a virtual environment of its own: rebuilt only when the lock changes.
FROM ${BASE} AS dependencies
# The same bytes every time: no date of today, and the order of sets as they are compiled. (1980, as
# early as a wheel's zip can say.)
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONHASHSEED=0 \
    SOURCE_DATE_EPOCH=315532800
# pip stays outside, in an environment that no later stage copies.
RUN python3 -m venv --without-pip /opt/thruway \
    && python3 -m venv /opt/pip
COPY image.lock /build/
# Only wheels, so no compiler. Removed afterwards: the client library's asynchronous copy of itself,
# which nothing imports, tests, sources of what is compiled, type stubs, and commands not ours.
RUN /opt/pip/bin/pip --python /opt/thruway/bin/python3 install --only-binary :all: --no-deps \
        --require-hashes --requirement /build/image.lock \
    && rm -rf /opt/thruway/include /opt/thruway/lib/python3*/site-packages/kubernetes/aio \
    && find /opt/thruway/lib -type d \( -name test -o -name tests \) -prune -exec rm -rf {} + \
    && find /opt/thruway/lib -type f \
        \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.[ch]' \) -delete \
    && find /opt/thruway/bin -type f -delete \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/thruway/lib \
    && find /opt/thruway -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

# Our own two packages and their commands, as a wheel made and installed without any other.
FROM dependencies AS application
COPY image-build.lock /build/
RUN /opt/pip/bin/pip install --only-binary :all: --no-deps --require-hashes \
        --requirement /build/image-build.lock
COPY LICENSE README.md pyproject.toml /build/
COPY extproc /build/extproc
COPY operator /build/operator
RUN /opt/pip/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir /build/dist /build \
    && /opt/pip/bin/pip --python /opt/thruway/bin/python3 install --no-deps --no-index \
        --root /build/root /build/dist/*.whl \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /build/root \
        /build/root/opt/thruway/lib \
    && find /build/root -exec touch --no-dereference --date "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="thruway" \
      org.opencontainers.image.description="The passthrough proxy for AI APIs: operator and external processor" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENV PATH="/opt/thruway/bin:${PATH}" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /opt/thruway /opt/thruway
COPY --from=application /build/root/opt/thruway /opt/thruway
# No root, and by number: the kubelet's runAsNonRoot can check nothing else.
USER 65532:65532
CMD ["thruway-operator"]
