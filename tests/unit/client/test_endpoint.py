from __future__ import annotations

from pathlib import Path

import pytest

from tandem.client.endpoint import Endpoint, NotServing, find_endpoint
from tandem.client.session import UpSession, write_session

_SESSION = UpSession("http://127.0.0.1:8123/v1", "sk-session")


def test_the_running_up_is_found_in_the_data_folder(tmp_path: Path) -> None:
    write_session(tmp_path, _SESSION)
    assert find_endpoint(None, None, tmp_path) == Endpoint(_SESSION.base_url, "sk-session")
    assert find_endpoint(None, "sk-mine", tmp_path).api_key == "sk-mine"


def test_the_sessions_key_is_not_sent_to_another_address(tmp_path: Path) -> None:
    write_session(tmp_path, _SESSION)
    assert find_endpoint("http://other:1", None, tmp_path) == Endpoint("http://other:1/v1", None)


def test_without_a_session_or_an_address_the_error_names_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(NotServing, match=r"tandem up.*--base-url"):
        find_endpoint(None, None, tmp_path)


def test_the_root_is_beside_the_api() -> None:
    assert Endpoint("http://h:1/v1", None).root_url == "http://h:1"
    assert Endpoint("http://h:1/proxy/v1", None).root_url == "http://h:1/proxy"
