"""What a provider may say of itself when it joins."""

from __future__ import annotations

import pytest
from tests.support.registered import registration

from tandem import protocol
from tandem.coordinator.fleet.registration import check_registration
from tandem.errors import ProtocolError


@pytest.mark.parametrize(
    "bad",
    [
        registration([]),
        registration(["a", "a"]),
        registration(f"m{number}" for number in range(65)),
        registration(["a" * 257]),
        registration(["a"], name=""),
        registration(["a"], "x" * 300),
        registration(["a"], link_addresses=["h:1"] * 17),
        registration(["a"], link_addresses=[""]),
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(bad: protocol.Registration) -> None:
    with pytest.raises(ProtocolError, match="registration"):
        check_registration(bad)


def test_one_at_every_limit_is_taken() -> None:
    names = [f"{number}".rjust(256, "m") for number in range(64)]
    check_registration(registration(names, "x" * 256, link_addresses=["h:1"] * 16))
