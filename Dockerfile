FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/tmp/cache
WORKDIR /striate
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# Where torch comes without CUDA: docker build --build-arg PIP_EXTRA_INDEX_URL=…
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' \
    && useradd --uid 10001 --no-create-home serve
USER 10001
EXPOSE 8000
ENTRYPOINT ["python", "-P", "-m", "striate", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/run/flowers"]
