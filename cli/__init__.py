"""The `streamax` command: a client like any other, and the local suite behind `make run`."""

import services  # noqa: F401  (settles what gRPC does at a fork, before gRPC is imported)
