"""What happens around every RPC: one concern a file, written once for all four shapes of RPC.

A layer is a function from a method and the next handler to a handler, called
once per method when the server is built. What depends on the method alone is
decided then; a layer with nothing to do for a method returns the next handler
and costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.chassis.auth import Verifier
from services.chassis.layers.access_log import AccessLog
from services.chassis.layers.authentication import Authentication
from services.chassis.layers.authorisation import Authorisation
from services.chassis.layers.call import Call, Handler, Layer, Method
from services.chassis.layers.codec import Codec
from services.chassis.layers.deadline import Deadline, DeadlineConfig
from services.chassis.layers.drain import Drain
from services.chassis.layers.failures import Failures
from services.chassis.layers.tracing import Tracing
from services.chassis.layers.validation import Validation

__all__ = ["Call", "DeadlineConfig", "Drain", "Handler", "Layer", "LayersConfig", "Method", "standard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersConfig:
    """What the layers can be told."""

    deadline: DeadlineConfig = field(default_factory=DeadlineConfig)
    #: A request message larger than this is refused by name.
    max_message_bytes: int = 1024 * 1024


def standard(config: LayersConfig, *, verifier: Verifier, drain: Drain) -> Sequence[Layer]:
    """The layers in their order, outermost first."""
    return (
        # Sees what anything within raises, as raised, and alone speaks gRPC status.
        Failures(),
        # Before the log, so that every line has its trace id; its spans cover refusals too.
        Tracing(),
        # Outside all that refuses, so that refused calls are logged with the code they get.
        AccessLog(),
        # Within the log: a stream that ends because we stop is logged as such.
        drain.layer(),
        # Before anything that costs: strangers get no timer, no parsing, no database.
        Authentication(verifier),
        # Needs the principal.
        Authorisation(),
        # The caller is known and may call: now bound the work.
        Deadline(config.deadline),
        # Parses only what an authorised caller sent.
        Codec(config.max_message_bytes),
        # Needs the message; next to the handler, which may rely on it.
        Validation(),
    )
