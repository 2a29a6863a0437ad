from __future__ import annotations

from tandem.runtime import first_failure


def test_the_first_failure_is_found_however_deep_it_is() -> None:
    first, second = ValueError("first"), ValueError("second")
    assert first_failure(ExceptionGroup("", [first, second])) is first
    wrapped = ExceptionGroup("", [ExceptionGroup("", [ExceptionGroup("", [first])]), second])
    assert first_failure(wrapped) is first
