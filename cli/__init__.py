"""The `streamax` command: a client like any other, and the local suite behind `make run`."""
