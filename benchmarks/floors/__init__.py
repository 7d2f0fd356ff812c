"""The least that would do the same work: what ours is held against."""
