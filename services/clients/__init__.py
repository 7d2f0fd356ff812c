"""Typed clients to our own services."""
