import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATUS_UNSPECIFIED: _ClassVar[SessionStatus]
    SESSION_STATUS_STARTING: _ClassVar[SessionStatus]
    SESSION_STATUS_RUNNING: _ClassVar[SessionStatus]
    SESSION_STATUS_STOPPING: _ClassVar[SessionStatus]
    SESSION_STATUS_STOPPED: _ClassVar[SessionStatus]
    SESSION_STATUS_ERROR: _ClassVar[SessionStatus]

class SessionCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_CAUSE_UNSPECIFIED: _ClassVar[SessionCause]
    SESSION_CAUSE_SOURCE: _ClassVar[SessionCause]
    SESSION_CAUSE_CPU: _ClassVar[SessionCause]
    SESSION_CAUSE_NETWORK: _ClassVar[SessionCause]
    SESSION_CAUSE_REMOTE_REFUSED: _ClassVar[SessionCause]
    SESSION_CAUSE_REMOTE_SLOW: _ClassVar[SessionCause]
    SESSION_CAUSE_KEY_REJECTED: _ClassVar[SessionCause]
    SESSION_CAUSE_STALLED: _ClassVar[SessionCause]
    SESSION_CAUSE_HOST_LOST: _ClassVar[SessionCause]
    SESSION_CAUSE_PACKAGE_EXPIRED: _ClassVar[SessionCause]
    SESSION_CAUSE_OPERATOR: _ClassVar[SessionCause]
    SESSION_CAUSE_USER: _ClassVar[SessionCause]
SESSION_STATUS_UNSPECIFIED: SessionStatus
SESSION_STATUS_STARTING: SessionStatus
SESSION_STATUS_RUNNING: SessionStatus
SESSION_STATUS_STOPPING: SessionStatus
SESSION_STATUS_STOPPED: SessionStatus
SESSION_STATUS_ERROR: SessionStatus
SESSION_CAUSE_UNSPECIFIED: SessionCause
SESSION_CAUSE_SOURCE: SessionCause
SESSION_CAUSE_CPU: SessionCause
SESSION_CAUSE_NETWORK: SessionCause
SESSION_CAUSE_REMOTE_REFUSED: SessionCause
SESSION_CAUSE_REMOTE_SLOW: SessionCause
SESSION_CAUSE_KEY_REJECTED: SessionCause
SESSION_CAUSE_STALLED: SessionCause
SESSION_CAUSE_HOST_LOST: SessionCause
SESSION_CAUSE_PACKAGE_EXPIRED: SessionCause
SESSION_CAUSE_OPERATOR: SessionCause
SESSION_CAUSE_USER: SessionCause

class Session(_message.Message):
    __slots__ = ("id", "user_id", "rtmp_url", "video_source", "status", "desired_status", "cause", "cause_detail", "container_id", "generation", "delivery", "create_time", "start_time", "stop_time", "revision", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    RTMP_URL_FIELD_NUMBER: _ClassVar[int]
    VIDEO_SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_STATUS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    CAUSE_DETAIL_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    STOP_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    user_id: str
    rtmp_url: str
    video_source: str
    status: SessionStatus
    desired_status: SessionStatus
    cause: SessionCause
    cause_detail: str
    container_id: str
    generation: int
    delivery: Delivery
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    stop_time: _timestamp_pb2.Timestamp
    revision: int
    etag: str
    def __init__(self, id: _Optional[str] = ..., user_id: _Optional[str] = ..., rtmp_url: _Optional[str] = ..., video_source: _Optional[str] = ..., status: _Optional[_Union[SessionStatus, str]] = ..., desired_status: _Optional[_Union[SessionStatus, str]] = ..., cause: _Optional[_Union[SessionCause, str]] = ..., cause_detail: _Optional[str] = ..., container_id: _Optional[str] = ..., generation: _Optional[int] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stop_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ..., etag: _Optional[str] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("delivered_seconds", "acknowledged_bytes", "bitrate_kbps", "attempts", "measure_time")
    DELIVERED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGED_BYTES_FIELD_NUMBER: _ClassVar[int]
    BITRATE_KBPS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    MEASURE_TIME_FIELD_NUMBER: _ClassVar[int]
    delivered_seconds: float
    acknowledged_bytes: int
    bitrate_kbps: float
    attempts: int
    measure_time: _timestamp_pb2.Timestamp
    def __init__(self, delivered_seconds: _Optional[float] = ..., acknowledged_bytes: _Optional[int] = ..., bitrate_kbps: _Optional[float] = ..., attempts: _Optional[int] = ..., measure_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
