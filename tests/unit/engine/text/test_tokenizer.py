"""Text to token ids and back, chat templates, and what is wrong with a model's files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import DEMO_MODEL, Message, Tokenizer, resolve_model
from tandem.engine.text import tokenizer as module
from tandem.errors import CheckpointError, ContextLengthExceeded, InternalError, InvalidRequest

TOKENIZER = Tokenizer(resolve_model(DEMO_MODEL))
HELLO = [Message("user", "Hello!")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The demonstration model's tokenizer, without settings or a template."""
    shutil.copy(resolve_model(DEMO_MODEL) / "tokenizer.json", tmp_path)
    return tmp_path


def with_template(directory: Path, template: object, **settings: object) -> Tokenizer:
    content = {"chat_template": template, **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(content))
    return Tokenizer(directory)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
@settings(deadline=None)
def test_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
@settings(deadline=None)
def test_the_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert b"".join(TOKENIZER.token_bytes(token) for token in ids) == text.encode()


def test_a_token_that_is_half_a_character_has_its_byte() -> None:
    ids = TOKENIZER.encode("\U0001f9a4")
    assert [TOKENIZER.token_bytes(token) for token in ids] == [b"\xf0", b"\x9f", b"\xa6", b"\xa4"]
    assert TOKENIZER.token_text(ids[0]) == "\ufffd"
    assert TOKENIZER.token_bytes(10**6) == b""


def test_what_a_token_shows_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer(resolve_model(DEMO_MODEL))
    expected = [(tokenizer.token_text(token), tokenizer.token_bytes(token)) for token in range(300)]
    assert [tokenizer.shown(token) for token in range(300)] == expected
    monkeypatch.setattr(Tokenizer, "token_text", None)
    monkeypatch.setattr(Tokenizer, "token_bytes", None)
    assert [tokenizer.shown(token) for token in range(300)] == expected


def test_a_conversation_ends_where_the_assistant_begins(directory: Path) -> None:
    template = "{% for m in messages %}{{ m.role }}={{ m.content }};{% endfor %}"
    tokenizer = with_template(
        directory, template + "{% if add_generation_prompt %}answer={% endif %}"
    )
    messages = [Message("system", "be brief"), *HELLO]
    assert tokenizer.decode(tokenizer.encode_chat(messages)) == (
        "system=be brief;user=Hello!;answer="
    )


def test_special_tokens_and_filters_are_known_to_templates(directory: Path) -> None:
    tokenizer = with_template(
        directory,
        "{{ bos_token }}{{ eos_token }}{{ messages[0] | tojson }}",
        bos_token="<b>",
        eos_token={"content": "<e>"},
    )
    found = map(tokenizer.token_text, tokenizer.encode_chat(HELLO))
    assert "".join(found) == '<b><e>{"role": "user", "content": "Hello!"}'


def test_of_several_templates_the_default_is_taken(directory: Path) -> None:
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    tokenizer = with_template(directory, named)
    assert tokenizer.decode(tokenizer.encode_chat(HELLO)) == "yes"
    (directory / "chat_template.jinja").write_text("a file of its own")
    tokenizer = Tokenizer(directory)
    assert tokenizer.decode(tokenizer.encode_chat(HELLO)) == "a file of its own"


def test_a_template_may_refuse_and_may_be_missing(directory: Path) -> None:
    with pytest.raises(InvalidRequest, match="no chat template"):
        Tokenizer(directory).encode_chat(HELLO)
    tokenizer = with_template(directory, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequest, match="roles must alternate"):
        tokenizer.encode_chat(HELLO)


def test_a_template_runs_in_a_sandbox(directory: Path) -> None:
    tokenizer = with_template(directory, "{{ ''.__class__.__mro__ }}")
    with pytest.raises(InvalidRequest, match="refuses"):
        tokenizer.encode_chat(HELLO)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 'x' + 1 }}", "TypeError"),
        ("{{ 1 // (messages[0].content | length - 6) }}", "ZeroDivisionError"),
        ("{{ messages[0].content.index('</think>') }}", "ValueError"),
        ("{{ messages[0] | tojson(no_such_argument=1) }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 10.0 ** 999 }}", "OverflowError"),
        ("{{ strftime_now('\\ud800') }}", "fails|tokenised"),
        ("{{ raise_exception('\\ud800' ~ 'x' * 100000) }}", "refuses"),
        ("{{ '\\ud800' }}", "cannot be tokenised"),
    ],
)
def test_whatever_a_template_raises_is_the_requests_failure(
    directory: Path, template: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        with_template(directory, template).encode_chat(HELLO)
    assert caught.value.param in {"messages", "prompt"}
    caught.value.message.encode()  # it can be sent
    assert len(caught.value.message) < 500


def test_text_that_is_no_text_is_the_requests_failure() -> None:
    with pytest.raises(InvalidRequest, match="cannot be tokenised"):
        TOKENIZER.encode("\ud800")


def test_nothing_of_a_template_is_computed_before_it_is_rendered(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[object] = []
    dumps = json.dumps

    def recorded(value: object, **options: Any) -> str:  # noqa: ANN401 - as the library's
        computed.append(value)
        return dumps(value, **options)

    template = "{{ 'constant' | tojson }}{% set x = 2 | tojson %}{{ x }}"
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    monkeypatch.setattr(json, "dumps", recorded)
    tokenizer = Tokenizer(directory)
    assert computed == []
    assert tokenizer.decode(tokenizer.encode_chat(HELLO)) == '"constant"2'
    assert computed == ["constant", 2]
    with_template(directory, "{{ 'a' * 10 ** 18 }}{{ 9 ** (9 ** 9) }}{{ 'a' | center(10 ** 18) }}")


def test_of_a_text_far_too_long_only_the_beginning_is_tokenised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tokenizer = Tokenizer(resolve_model(DEMO_MODEL))
    tokenizer.max_token_bytes = 0  # as of one that may lose text
    given: list[int] = []
    tokenised = tokenizer._tokenised

    def counted(text: str, *, special: bool) -> list[int]:
        given.append(len(text))
        return tokenised(text, special=special)

    monkeypatch.setattr(tokenizer, "_tokenised", counted)
    with pytest.raises(ContextLengthExceeded, match="beginning alone"):
        tokenizer.encode("hello world " * 100_000, 2048)
    assert sum(given) < 50_000


def test_a_text_that_fits_is_tokenised_whole_after_it_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_USUAL_CHARACTERS", 1)
    text = "hello world " * 5000
    whole = TOKENIZER.encode(text)
    assert TOKENIZER.encode(text, len(whole)) == whole
    with pytest.raises(ContextLengthExceeded, match=f"{len(whole)} prompt tokens"):
        TOKENIZER.encode(text, len(whole) - 1)


class PanicException(BaseException):
    """As libraries in Rust raise it: no `Exception`, and not to be imported."""


def test_a_panic_of_the_library_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panicking:
        def encode(self, *_: object, **__: object) -> None:
            raise PanicException

        decode = encode

    tokenizer = Tokenizer(resolve_model(DEMO_MODEL))
    monkeypatch.setattr(tokenizer, "_tokenizer", Panicking())
    with pytest.raises(InternalError):
        tokenizer.encode("x")
    with pytest.raises(InternalError):
        tokenizer.decode([1])


def test_what_ends_the_process_is_no_error_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def encode(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    tokenizer = Tokenizer(resolve_model(DEMO_MODEL))
    monkeypatch.setattr(tokenizer, "_tokenizer", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        tokenizer.encode("x")


#: The library cuts the prefix off pieces that are shorter than it.
_PANICS = {
    "version": "1.0",
    "added_tokens": [],
    "model": {
        "type": "BPE",
        "continuing_subword_prefix": "###",
        "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": [["a", "b"]],
    },
}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tokenizer.json", "{}", "not a tokenizer"),
        ("tokenizer.json", json.dumps(_PANICS), "not a tokenizer"),
        ("tokenizer_config.json", "{", "tokenizer_config.json"),
        ("chat_template.jinja", "{% if %}", "does not parse"),
    ],
)
def test_a_damaged_file_is_named(directory: Path, name: str, content: str, words: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        Tokenizer(directory)
