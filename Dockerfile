# The whole of it in a virtual environment, which alone goes into the image that runs.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/notifyctl \
    && /opt/notifyctl/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY notifyctl ./notifyctl
COPY migrations ./migrations
COPY templates ./templates
RUN /opt/notifyctl/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/dist . \
    && /opt/notifyctl/bin/pip install --no-cache-dir --no-deps /tmp/dist/notifyctl-*.whl

FROM python:3.12-slim
COPY --from=build /opt/notifyctl /opt/notifyctl
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/notifyctl notifyctl
ENV PATH=/opt/notifyctl/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DATABASE_URL=sqlite:////var/lib/notifyctl/notifyctl.db
USER notifyctl
WORKDIR /var/lib/notifyctl
VOLUME /var/lib/notifyctl
ENTRYPOINT ["notifyctl"]
CMD ["worker"]
