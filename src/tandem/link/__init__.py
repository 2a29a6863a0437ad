"""Links between paired machines: mutual TLS 1.3, pinned, from the first byte. Frames inside."""

from __future__ import annotations

from tandem.link.channel import Buffer, Channel, TlsChannel
from tandem.link.control import ControlLink, dial_control
from tandem.link.data import dial_data
from tandem.link.listener import LinkListener
from tandem.link.pairing import pair_by_dialling, pair_by_listening
from tandem.link.tls import LinkCredentials

__all__ = [
    "Buffer",
    "Channel",
    "ControlLink",
    "LinkCredentials",
    "LinkListener",
    "TlsChannel",
    "dial_control",
    "dial_data",
    "pair_by_dialling",
    "pair_by_listening",
]
