import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis import logs
from services.chassis.errors import Error, Internal, RateLimited
from services.users.config import Config, PasswordConfig
from services.users.errors import CredentialsInvalid, EmailUnavailable, RefreshTokenInvalid
from services.users.tokens import refresh_token_hash
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.database import Database
from tests.support.tokens import bearer
from tests.support.users import Client, client_of, refused
