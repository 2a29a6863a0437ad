"""What a provider may say of itself when it joins."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.registered import HARDWARE, beat, registration

from tandem import protocol
from tandem.coordinator.fleet.registration import check_heartbeat, check_registration
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


UNSHOWABLE = ["\x1b[2J", "a\nb", "\u202egpu-box", "a\u2066b", "\x9b31m", "a\u2028b", "\x7f", "\0"]


@pytest.mark.parametrize("name", UNSHOWABLE, ids=ascii)
def test_a_name_that_cannot_be_shown_is_refused_wherever_it_stands(name: str) -> None:
    info = registration(["a"]).models[0]
    for bad in (
        registration(["a"], name),
        registration([name]),
        registration(["a"], link_addresses=[name]),
        msgspec.structs.replace(registration(["a"]), software=name),
        *(
            msgspec.structs.replace(
                registration(["a"]), hardware=msgspec.structs.replace(HARDWARE, **{field: name})
            )
            for field in ("hostname", "platform", "device")
        ),
        *(
            msgspec.structs.replace(
                registration(["a"]), models=[msgspec.structs.replace(info, **{field: name})]
            )
            for field in ("architecture", "dtype", "quantization")
        ),
    ):
        with pytest.raises(ProtocolError, match="turn text around") as refused:
            check_registration(bad)
        assert refused.value.message.isascii()
    for strange in (beat(device=name), beat(members=[name])):
        with pytest.raises(ProtocolError, match="heartbeat"):
            check_heartbeat(strange)


def test_a_heartbeat_names_a_bounded_cluster() -> None:
    check_heartbeat(beat(members=["a" * 64] * 256, device="cuda:0 NVIDIA H100 80GB HBM3"))
    with pytest.raises(ProtocolError, match="members"):
        check_heartbeat(beat(members=["a"] * 257))
    with pytest.raises(ProtocolError, match="256 characters"):
        check_heartbeat(beat(device="x" * 257))


@given(st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs")), min_size=1, max_size=64))
def test_names_of_any_language_are_taken(name: str) -> None:
    check_registration(registration([name], name))
