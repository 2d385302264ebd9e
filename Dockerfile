# fastcell for a CPU:  docker build -t fastcell .  &&  docker run --rm -v "$PWD:/data" fastcell doctor
FROM python:3.13-slim
RUN pip install --no-cache-dir uv
WORKDIR /opt/fastcell
COPY pyproject.toml README.md LICENSE ./
COPY fastcell fastcell
COPY kernels kernels
RUN uv pip install --system --no-cache --torch-backend cpu ".[cpu]" && fastcell doctor
RUN useradd --create-home cell && mkdir /data && chown cell /data
USER cell
WORKDIR /data
ENTRYPOINT ["fastcell"]
CMD ["--help"]
