# The whole of it in a virtual environment, which alone goes into the image that runs. What builds it stays in this stage.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && python -m venv --without-pip /opt/notifyctl \
    && /opt/build/bin/pip --python /opt/notifyctl/bin/python install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY notifyctl ./notifyctl
COPY migrations ./migrations
COPY templates ./templates
COPY docs/deploy ./docs/deploy
COPY docs/man ./docs/man
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/dist . \
    && /opt/build/bin/pip --python /opt/notifyctl/bin/python install --no-cache-dir --no-deps /tmp/dist/notifyctl-*.whl

FROM python:3.12-slim
COPY --from=build /opt/notifyctl /opt/notifyctl
RUN useradd --uid 10001 --no-create-home --home-dir /var/lib/notifyctl --shell /usr/sbin/nologin notifyctl \
    && install -d -m 700 -o notifyctl -g notifyctl /var/lib/notifyctl
# Its database is /var/lib/notifyctl/notifyctl.db unless DATABASE_URL says otherwise, and a worker's marks lie beside it.
ENV PATH=/opt/notifyctl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_DATA_HOME=/var/lib \
    STATE_DIRECTORY=/var/lib/notifyctl \
    HTTP_HOST=0.0.0.0
USER notifyctl
WORKDIR /var/lib/notifyctl
VOLUME /var/lib/notifyctl
EXPOSE 8080
# A server answers; a worker of this container has been seen at work within the last minute.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD \
    if grep -qz "^serve$" /proc/1/cmdline; \
    then python -c "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('HTTP_PORT', '8080') + '/healthz', timeout=5)"; \
    else notifyctl workers --format tsv | grep -q "^$(hostname):.*working"; fi
ENTRYPOINT ["notifyctl"]
CMD ["worker"]
