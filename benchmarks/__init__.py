"""What StreamAX costs, measured against the least that the same work could cost on the same machine.

A figure measures ours and its floor in turns, in the same minutes, so that the
ratio holds where absolute numbers do not. `python -m benchmarks` prints a line
per quantity, and keeps the rounds as JSON and a chart in docs/benchmarks/.
"""

import services  # noqa: F401  (settles what gRPC does at a fork, before gRPC is imported)
