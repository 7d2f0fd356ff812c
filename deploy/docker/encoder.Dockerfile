# The encoder: one container per stream. Built by `cli/suite/images.py`, or by hand
# with a folder that holds this file, assemble.py, encoder/ and an ffmpeg binary:
#
#   docker build -f encoder.Dockerfile -t streamax/encoder <folder>
#
# Debian is only where the parts are taken from; nothing else of it is in the image.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS assembly
# By this the builder's leftovers are found again.
LABEL io.streamax.stage=assembly
SHELL ["/bin/dash", "-ec"]
# A base that brings both (as the one made without a registry does) needs no network here.
RUN if ! [ -x /usr/bin/python3 ] || ! [ -d /usr/share/ca-certificates ]; then \
      apt-get update; apt-get install -y --no-install-recommends python3 ca-certificates; fi
COPY ffmpeg /parts/ffmpeg
COPY assemble.py /parts/assemble.py
COPY encoder /parts/encoder
RUN /usr/bin/python3 /parts/assemble.py

FROM scratch
LABEL org.opencontainers.image.title="StreamAX encoder" \
      org.opencontainers.image.description="A supervisor around ffmpeg: one live stream to one RTMP server"
COPY --from=assembly /image /
COPY --from=assembly /changing /
USER 65534:65534
WORKDIR /
STOPSIGNAL SIGTERM
# Its health is what it reports: a container that runs may deliver nothing.
HEALTHCHECK NONE
ENTRYPOINT ["/usr/bin/python3", "-I", "-S", "/usr/lib/encoder/__main__.py"]
