"""Packages that offer heavy names: all of them are there, and none is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from tandem.runtime import on_demand

_FACES = ["tandem.client", "tandem.coordinator", "tandem.provider", "tandem.up"]
_HEAVY = {"httpx2", "starlette", "uvicorn", "sqlalchemy", "cryptography", "torch", "numpy"}


@pytest.mark.parametrize("name", _FACES)
def test_every_name_is_there(name: str) -> None:
    face = import_module(name)
    for offered in face.__all__:
        assert getattr(face, offered) is not None


@pytest.mark.parametrize("name", _FACES)
def test_entering_a_package_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(done.stdout.split()) & _HEAVY


def test_another_name_is_no_attribute() -> None:
    find = on_demand("tandem.runtime", {"addresses": ("free_port",)})
    assert find("free_port") is import_module("tandem.runtime.addresses").free_port
    with pytest.raises(AttributeError, match=r"'tandem.runtime' has no attribute 'x'"):
        find("x")
