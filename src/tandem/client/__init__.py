"""What a program on this machine needs to use a service: where it is, its key, and its API.

Commands use it, and `tandem up` leaves its session here. It knows HTTP and nothing of how a service
is built.
"""

from __future__ import annotations
