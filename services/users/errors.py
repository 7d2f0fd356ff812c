"""The refusals only the users service knows."""

import grpc

from services.chassis.errors import Error


class CredentialsInvalid(Error):
    """The e-mail address or the password is wrong."""

    reason = "CREDENTIALS_INVALID"
    code = grpc.StatusCode.UNAUTHENTICATED


class RefreshTokenInvalid(Error):
    """The refresh token is not valid any more; sign in again."""

    reason = "REFRESH_TOKEN_INVALID"
    code = grpc.StatusCode.UNAUTHENTICATED


class EmailUnavailable(Error):
    """This e-mail address cannot be used to sign up."""

    reason = "EMAIL_UNAVAILABLE"
    code = grpc.StatusCode.ALREADY_EXISTS
