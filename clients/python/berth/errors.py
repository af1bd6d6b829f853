"""What goes wrong, as exceptions by kind. Every one carries the server's code, reason, fields and retry delay."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.rpc import error_details_pb2, status_pb2


class BerthError(Exception):
    """An error of the server or of the way to it.

    code: the canonical name, such as "INVALID_ARGUMENT". reason: the server's own, such as "SESSION_BUSY"; may be
    empty. fields: path of each bad field to what is wrong with it. retry_after: seconds after which a repetition makes
    sense.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.fields = dict(fields or {})
        self.retry_after = retry_after

    @property
    def field(self) -> str:
        """The first bad field; empty when none is named."""
        return next(iter(self.fields), "")


class InvalidRequestError(BerthError, ValueError):
    """A field is wrong, or a position lies beyond a session's history."""


class NotFoundError(BerthError, LookupError):
    """The model or session does not exist."""


class SessionError(BerthError):
    """The session is busy, exists already, is gone or was taken over."""


class AccessError(BerthError, PermissionError):
    """The key or certificate does not do."""


class OverloadedError(BerthError):
    """The server has no room; `retry_after` may say when."""


class DeadlineError(BerthError, TimeoutError):
    """The time given to the call is over."""


class RequestCancelledError(BerthError):
    """The request was cancelled."""


class UnsupportedError(BerthError, NotImplementedError):
    """Berth has no such feature, or not yet."""


class UnavailableError(BerthError, ConnectionError):
    """The server cannot be reached, or lost the request."""


class ServerStartError(BerthError, RuntimeError):
    """The local server did not start; the message ends with its log."""


_BY_CODE: dict[grpc.StatusCode, type[BerthError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: SessionError,
    grpc.StatusCode.ABORTED: SessionError,
    grpc.StatusCode.FAILED_PRECONDITION: SessionError,
    grpc.StatusCode.UNAUTHENTICATED: AccessError,
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: RequestCancelledError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}


def from_rpc(error: grpc.aio.AioRpcError) -> BerthError:
    """The exception for a failed call."""
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    retry_after: float | None = None
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            detail.Unpack(info)
            detail.Unpack(bad)
            if detail.Unpack(retry):
                retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    kind = _BY_CODE.get(error.code(), BerthError)
    return kind(
        error.details() or error.code().name,
        code=error.code().name,
        reason=info.reason,
        fields={violation.field: violation.description for violation in bad.field_violations},
        retry_after=retry_after,
    )


def unsupported(what: str, instead: str = "") -> UnsupportedError:
    """A named refusal: `what` says the thing and the value."""
    return UnsupportedError(f"{what} is not supported" + (f"; {instead}" if instead else ""), code="UNIMPLEMENTED")


def invalid(field: str, description: str) -> InvalidRequestError:
    """A bad value found before anything was sent."""
    return InvalidRequestError(f"{field} {description}", code="INVALID_ARGUMENT", fields={field: description})
