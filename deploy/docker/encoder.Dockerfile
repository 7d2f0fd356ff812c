# The encoder's image: Python, ffmpeg and the supervisor. No shell, no package manager, nobody but nobody.
#
# Context: this file, collect.py, encoder/ and the ffmpeg binary to ship, as `ffmpeg`.
#   docker build -f encoder.Dockerfile -t streamax/encoder .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS parts
# By this the builder's leftovers are found again.
LABEL io.streamax.stage=parts
# A base that has both already needs no network.
RUN { command -v python3 && test -s /etc/ssl/certs/ca-certificates.crt; } > /dev/null || { \
      apt-get update \
      && apt-get install -y --no-install-recommends python3 ca-certificates \
      && rm -rf /var/lib/apt/lists/*; }
COPY collect.py /collect.py
COPY encoder /image/opt/encoder
COPY ffmpeg /image/usr/bin/ffmpeg
RUN python3 -I /collect.py /image

FROM scratch
LABEL org.opencontainers.image.title="StreamAX encoder" \
      org.opencontainers.image.description="One ffmpeg, supervised; told what to do on standard input"
COPY --from=parts /image /
USER 65534:65534
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/python3", "-I", "-S", "/opt/encoder"]
