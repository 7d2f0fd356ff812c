"""What StreamAX costs, measured against the least that the same work could cost on the same machine.

A figure measures ours and its floor in turns, in the same minutes, so that the
ratio holds where absolute numbers do not. `python -m benchmarks` prints a line
per quantity, and keeps the rounds as JSON and a chart in docs/benchmarks/.
"""

import os

# Before gRPC is first imported: figures start programs while channels are open, and
# gRPC would otherwise stop its threads at every fork, or complain that it could not.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
