"""The gRPC services of StreamAX, one folder each, and the chassis they are mounted on."""

import os

# Before gRPC is first imported. Services start processes while calls are in flight (encoders, the media
# worker); gRPC's handlers would stop its threads at each fork and complain where they cannot; once a child
# failed with an error of gRPC's own for all its output. We never use gRPC on both sides
# of a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
