"""Where data is kept, and what is said where it cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tandem.errors import ConfigurationError
from tandem.runtime import create_data_dir, data_dir_or_default, has_writable_home, open_log


def _without_a_home(script: str) -> str:
    """Run as a user of whom the system knows nothing."""
    played = (
        "import pwd; pwd.getpwuid = lambda uid: {}[uid]\n"
        "from tandem.errors import ConfigurationError\n"
        "from tandem.runtime import data_dir_or_default, has_writable_home\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")
    }
    done = subprocess.run(
        [sys.executable, "-c", played + script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_user_without_a_home_is_told_what_to_name() -> None:
    script = "try: data_dir_or_default(None)\nexcept ConfigurationError as error: print(error)"
    assert "--data-dir" in _without_a_home(script)
    assert _without_a_home("print(has_writable_home())") == "False\n"


def test_a_named_folder_needs_no_home(tmp_path: Path) -> None:
    script = f"from pathlib import Path; print(data_dir_or_default(Path({str(tmp_path)!r})))"
    assert _without_a_home(script) == f"{tmp_path}\n"


def test_a_folder_that_cannot_be_made_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"file/data: .*--data-dir"):
        create_data_dir(tmp_path / "file" / "data")


def test_a_home_is_asked_for_what_it_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert has_writable_home()
    assert data_dir_or_default(Path("~/x")) == tmp_path / "x"
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert not has_writable_home()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_data_folder_that_others_may_open_is_closed_to_them(tmp_path: Path) -> None:
    for made_before in (True, False):
        folder = tmp_path / f"data-{made_before}"
        if made_before:
            folder.mkdir()
            folder.chmod(0o755)
        create_data_dir(folder)
        assert _mode(folder) == 0o700


def test_a_place_for_all_kinds_of_files_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybodys, home = tmp_path / "tmp", tmp_path / "home"
    for folder, mode in ((everybodys, 0o1777), (home, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.setenv("HOME", str(home))
    for folder in (everybodys, home):
        create_data_dir(folder)
    assert (_mode(everybodys), _mode(home)) == (0o1777, 0o755)


def test_a_log_is_its_owners_and_grows(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        with open_log(tmp_path / "x.log") as log:
            log.write(line)
    assert (tmp_path / "x.log").read_bytes() == b"one\ntwo\n"
    assert _mode(tmp_path / "x.log") == 0o600
