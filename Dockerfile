# The API, without weights: mount a checkpoint, and the backbone that it names (docs/serving.md).
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /opt/mirip && /opt/mirip/bin/pip install --no-cache-dir uv==0.8.0
COPY requirements.txt pyproject.toml README.md LICENSE ./
RUN VIRTUAL_ENV=/opt/mirip /opt/mirip/bin/uv pip install --no-cache -r requirements.txt
COPY mirip ./mirip
RUN VIRTUAL_ENV=/opt/mirip /opt/mirip/bin/uv pip install --no-cache --no-deps .

FROM python:3.12-slim
RUN useradd --create-home --uid 1000 mirip
COPY --from=build /opt/mirip /opt/mirip
RUN install -d -o mirip -g mirip /home/mirip/.mirip
ENV PATH=/opt/mirip/bin:$PATH HF_HUB_OFFLINE=1
USER 1000
WORKDIR /home/mirip
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["mirip", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--checkpoint", "/model/best_model.pt", "--backbone", "/backbone"]
