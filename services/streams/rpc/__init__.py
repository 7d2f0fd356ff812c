"""Where RPCs enter: unpack, one call, pack."""
