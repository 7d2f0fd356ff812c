"""All figures, in the order in which they are measured."""

from collections.abc import Sequence
from typing import Final

from benchmarks.figure import Figure
from benchmarks.figures.control_plane import ControlPlane
from benchmarks.figures.getsession import GetSession
from benchmarks.figures.start_docker import StartDocker
from benchmarks.figures.start_process import StartProcess

__all__ = ["FIGURES"]

FIGURES: Final[Sequence[Figure]] = (
    GetSession(name="getsession", sampler="parentbased_traceidratio", argument="0.1", share=0.75),
    GetSession(name="getsession_traced", sampler="parentbased_always_on", share=0.5),
    StartDocker(),
    StartProcess(),
    ControlPlane(),
)
