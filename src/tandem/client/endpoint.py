"""Which service a client command talks to: what was named, or else the running `tandem up`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.client.address import API_PATH, api_base_url, split_pin
from tandem.client.session import read_session
from tandem.errors import TandemError
from tandem.runtime import data_dir_or_default


class NotServing(TandemError):
    """No service was found, or it could not be reached."""

    code = "not_serving"


class Endpoint(msgspec.Struct, frozen=True):
    """`base_url` ends in the API's path, without a slash after it. `api_key` None sends none.

    `pin` is what the service's key is known by; None leaves that to authorities.
    """

    base_url: str
    api_key: str | None
    pin: str | None = None

    @property
    def root_url(self) -> str:
        """Where the service's own routes (`/readyz`) are, beside the API."""
        return self.base_url.removesuffix(API_PATH)


def find_endpoint(base_url: str | None, api_key: str | None, data_dir: Path | None) -> Endpoint:
    """Raises NotServing when nothing was named and no `tandem up` runs on the data folder.

    The session's key goes to the session's address only: an address that the user names gets the
    key that the user names, or none.
    """
    if base_url:
        return _named(base_url, api_key or None)
    folder = data_dir_or_default(data_dir)
    session = read_session(folder)
    if session is None:
        raise NotServing(
            f"no running service found in {folder}: start one with `tandem up`,"
            " or name one with --base-url and --api-key"
        )
    return _named(session.base_url, api_key or session.api_key)


def _named(address: str, api_key: str | None) -> Endpoint:
    url, pin = split_pin(address)
    return Endpoint(api_base_url(url, tls=pin is not None), api_key, pin)
