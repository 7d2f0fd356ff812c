import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UserRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USER_ROLE_UNSPECIFIED: _ClassVar[UserRole]
    USER_ROLE_USER: _ClassVar[UserRole]
    USER_ROLE_ADMIN: _ClassVar[UserRole]

class PackageType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACKAGE_TYPE_UNSPECIFIED: _ClassVar[PackageType]
    PACKAGE_TYPE_STARTER: _ClassVar[PackageType]
    PACKAGE_TYPE_CREATOR: _ClassVar[PackageType]
    PACKAGE_TYPE_PRO: _ClassVar[PackageType]
USER_ROLE_UNSPECIFIED: UserRole
USER_ROLE_USER: UserRole
USER_ROLE_ADMIN: UserRole
PACKAGE_TYPE_UNSPECIFIED: PackageType
PACKAGE_TYPE_STARTER: PackageType
PACKAGE_TYPE_CREATOR: PackageType
PACKAGE_TYPE_PRO: PackageType

class User(_message.Message):
    __slots__ = ("id", "email", "role", "package_type", "package_expires_at", "streams_allowed", "streams_active", "create_time", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    STREAMS_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    STREAMS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    email: str
    role: UserRole
    package_type: PackageType
    package_expires_at: _timestamp_pb2.Timestamp
    streams_allowed: int
    streams_active: int
    create_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, id: _Optional[str] = ..., email: _Optional[str] = ..., role: _Optional[_Union[UserRole, str]] = ..., package_type: _Optional[_Union[PackageType, str]] = ..., package_expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., streams_allowed: _Optional[int] = ..., streams_active: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...
