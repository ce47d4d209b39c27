# The service alone, from the hashed lock. Runs as nobody in particular, on a read-only root.
#   docker run --read-only --cap-drop ALL -v …/envoy.yaml:/etc/mcp-ext-authz/envoy.yaml:ro \
#     -v …/run:/run/mcp-ext-authz -v …/log:/var/log/mcp-ext-authz mcp-ext-authz
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/mcp-ext-authz
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN /opt/mcp-ext-authz/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/runtime.txt \
 && python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY ext_authz ext_authz
COPY envoy envoy
RUN /opt/build/bin/python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/mcp-ext-authz/bin/python -m pip install --no-cache-dir --no-deps /dist/*.whl \
 && /opt/mcp-ext-authz/bin/python -m pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="mcp-ext-authz" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/mcp-ext-authz /opt/mcp-ext-authz
ENV PATH=/opt/mcp-ext-authz/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["mcp-ext-authz"]
CMD ["serve", "/etc/mcp-ext-authz/envoy.yaml"]
