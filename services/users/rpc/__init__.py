"""One servicer per proto service; a method unpacks, makes one call, packs."""
