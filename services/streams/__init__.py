"""Streams: what users want to be live, and the engine that makes it so.

Owns `stream_sessions`, the slots they take, their keys and their change log.
Users reach it through `rpc/`; the `reconcile` room drives the encoders that
`runtime` runs; `watch` tells whoever listens. Every rule that must hold under a
race or a crash is in sql/streams, not here.
"""
