"""The local suite: all of StreamAX on one machine, with stand-ins for what is not there.

An embedded PostgreSQL where none is given, plain processes where no container
engine answers, and an RTMP server to stream to. `make run` and the tests use it.
"""
