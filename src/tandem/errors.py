"""Every failure Tandem can name, in one tree.

    TandemError
    ├── InvalidRequest              400  the consumer's request is wrong; `param` names the field
    │   ├── ContextLengthExceeded   400  prompt + max_tokens do not fit the model
    │   ├── UnsupportedParameter    400  a parameter of the API that Tandem does not serve
    │   ├── RequestTooLarge         413  the body is over the limit
    │   └── HeaderTooLarge          431  request line and headers are over the limit
    ├── RequestTooSlow              408  the header or the body did not come in time
    ├── AuthenticationFailed        401  no key, or a key that is unknown or revoked
    │   └── AttestationRefused      401  a provider cannot prove what it says of itself
    ├── PermissionRefused           403  the key is a user's, and this is the operator's to do
    │   └── ApprovalRequired        403  an operator has not let this machine in yet
    ├── OriginRefused               403  a web page of elsewhere asks, by somebody's browser
    ├── NotFound                    404  no such route
    │   └── ModelNotFound           404  nobody serves that model
    ├── MethodNotAllowed            405
    ├── Overloaded                  429  queues are full: retry after a while
    ├── RateLimited                 429  the key has used up its minute, or its requests at once
    ├── BudgetExhausted             429  the key has used up its tokens for good
    ├── NoProviderAvailable         503  the model is known, but nobody can serve it now
    ├── RequestTimedOut             503  the request's deadline passed
    ├── AnswerNotRead               408  the consumer lets more of its answer wait than it may
    ├── ProviderLost                503  the provider died or went away in mid-request
    ├── ServiceStopping             503  this process is draining
    ├── TooManyConnections          503  more are being answered than there are descriptors for
    ├── LinkLost                    503  the link between a cluster's ranks broke or went silent
    ├── ExecutorFailed              500  the model failed on a step
    ├── RequestGivenUp              500  the request has cost one provider after the other
    ├── InternalError               500  a defect of ours
    ├── ProtocolError               502  a peer broke the protocol
    ├── PeerRefused                  -   another machine will not form a cluster with this one
    ├── CheckpointError              -   a model directory that cannot be loaded
    └── ConfigurationError           -   an option or a file of the operator's is wrong

Errors are raised where the cause is known and translated once, at the edge: the coordinator's API
makes them OpenAI error objects, the protocol carries them as code + message + param, and the CLI
prints them. `docs/errors.md` has one row for each.
"""

from __future__ import annotations

from typing import ClassVar


class TandemError(Exception):
    """The root. `status` is HTTP's, `code` is stable, `kind` is OpenAI's `error.type`."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"
    retryable: bool = False
    retry_after_s: int | None = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class InvalidRequest(TandemError):
    status = 400
    code = "invalid_request"
    kind = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class HeaderTooLarge(InvalidRequest):
    status = 431
    code = "header_too_large"


class RequestTooSlow(TandemError):
    status = 408
    code = "request_too_slow"
    kind = "invalid_request_error"
    retryable = True


class AuthenticationFailed(TandemError):
    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"


class AttestationRefused(AuthenticationFailed):
    code = "attestation_refused"


class PermissionRefused(TandemError):
    status = 403
    code = "permission_refused"
    kind = "permission_error"


class ApprovalRequired(PermissionRefused):
    code = "approval_required"
    retryable = True


class OriginRefused(TandemError):
    status = 403
    code = "origin_refused"
    kind = "permission_error"


class NotFound(TandemError):
    status = 404
    code = "not_found"
    kind = "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(TandemError):
    status = 405
    code = "method_not_allowed"
    kind = "invalid_request_error"


class Overloaded(TandemError):
    status = 429
    code = "overloaded"
    kind = "rate_limit_error"
    retryable = True
    retry_after_s = 1


class RateLimited(TandemError):
    status = 429
    code = "rate_limit_exceeded"
    kind = "rate_limit_error"
    retryable = True
    retry_after_s = 1


class BudgetExhausted(TandemError):
    status = 429
    code = "insufficient_quota"
    kind = "insufficient_quota"


class NoProviderAvailable(TandemError):
    status = 503
    code = "no_provider_available"
    retryable = True
    retry_after_s = 2


class RequestTimedOut(TandemError):
    status = 503
    code = "request_timed_out"
    retryable = True


class AnswerNotRead(TandemError):
    status = 408
    code = "answer_not_read"
    kind = "invalid_request_error"


class ProviderLost(TandemError):
    status = 503
    code = "provider_lost"
    retryable = True
    retry_after_s = 1


class ServiceStopping(TandemError):
    status = 503
    code = "service_stopping"
    retryable = True
    retry_after_s = 2


class TooManyConnections(TandemError):
    status = 503
    code = "too_many_connections"
    retryable = True
    retry_after_s = 1


class LinkLost(TandemError):
    status = 503
    code = "link_lost"
    retryable = True
    retry_after_s = 1


class ExecutorFailed(TandemError):
    code = "executor_failed"
    retryable = True


class RequestGivenUp(TandemError):
    code = "request_given_up"


class InternalError(TandemError):
    code = "internal_error"


class ProtocolError(TandemError):
    status = 502
    code = "protocol_error"


class PeerRefused(TandemError):
    code = "peer_refused"


class CheckpointError(TandemError):
    code = "checkpoint_error"


class ConfigurationError(TandemError):
    code = "configuration_error"


def _tree(root: type[TandemError]) -> dict[str, type[TandemError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def error_from_code(code: str, message: str, param: str | None = None) -> TandemError:
    """The error a peer named by `code`; `InternalError` for a code this version does not know."""
    return _BY_CODE.get(code, InternalError)(message, param=param)


_BY_CODE = _tree(TandemError)
