"""Validation: the rules written beside the fields in the .proto files, checked before the handler."""

from collections.abc import AsyncIterator
from typing import Any

import protovalidate
from google.protobuf.descriptor import Descriptor

from services.chassis.errors import FieldViolation, InvalidField
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["Validation"]

_RULES = "buf.validate."


class Validation:
    """The layer; leaves methods alone whose requests have no rules."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        # FromString is a class method of the generated class: that names the request type.
        request_type = getattr(method.decode, "__self__", None)
        if request_type is None or not _has_rules(request_type.DESCRIPTOR, set()):
            return proceed
        # The first use of a type compiles its rules (12 ms): not while a caller waits.
        self._violations(request_type())

        async def one(call: Call) -> Any:
            self._check(call.request)
            return await proceed(call)

        async def many(call: Call) -> Any:
            call.request = self._each(call.request)
            return await proceed(call)

        return many if method.request_streaming else one

    async def _each(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            self._check(message)
            yield message

    def _check(self, message: Any) -> None:
        violations = self._violations(message)
        if violations:
            fields = [
                FieldViolation(_path(each.proto.field), each.proto.message or each.proto.rule_id)
                for each in violations
            ]
            raise InvalidField(f"{fields[0].field}: {fields[0].description}", fields=fields)

    def _violations(self, message: Any) -> list[protovalidate.Violation]:
        return self._validator.collect_violations(message)


def _has_rules(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    holders = [descriptor, *descriptor.oneofs, *descriptor.fields]
    return any(
        option.full_name.startswith(_RULES)
        for each in holders
        for option, _ in each.GetOptions().ListFields()
    ) or any(_has_rules(each.message_type, seen) for each in descriptor.fields if each.message_type)


def _path(path: Any) -> str:
    """`items[2].labels["a"]`, as AIP-193 and protovalidate write it."""
    text = ""
    for element in path.elements if path else ():
        text += f".{element.field_name}" if text else element.field_name
        subscript = element.subscript
        if subscript is not None:
            text += f"[{subscript.value!r}]" if subscript.field != "string_key" else f'["{subscript.value}"]'
    return text
