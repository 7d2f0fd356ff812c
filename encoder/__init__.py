"""The program inside every encoder container: a supervisor around one ffmpeg.

It is told what to do by one JSON job on standard input (or in a file), tells
what it sees as JSON lines on standard output, and needs the control plane for
neither: it keeps streaming, reconnecting and reporting while nobody listens.
Standard library only, because the image carries nothing else.

`python3 -I -S <this folder>/__main__.py` runs it: isolated from the
environment and from site-packages, and quick to start.
"""
