"""The gRPC services of StreamAX, one folder each, and the chassis they are mounted on."""

import os

# Before gRPC is first imported. Services start processes while calls are in flight (encoders, the media
# worker); gRPC's handlers would stop its threads at each fork, complain where they cannot, and have been
# seen to end the child before it became the program it was meant to be. We never use gRPC on both sides
# of a fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
