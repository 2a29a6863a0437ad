"""Tokenizer files mean what they mean to `transformers`: for texts, chats and special tokens."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from tests.support.models.drawn_folders import tokenizer_files
from tests.support.models.folders import (
    PLAIN_TEMPLATE,
    Files,
    added_token,
    changed,
    with_template,
    write_folder,
)
from tests.support.models.sentencepiece import sentencepiece_settings, sentencepiece_tokenizer
from tests.support.models.tokenizer_reading import ours, theirs


def _settings(**fields: object) -> Files:
    return {"tokenizer_config.json": changed(**fields)}


FOLDERS: dict[str, Files] = {
    "as shipped": {},
    "cut to a batch's length": {
        "tokenizer.json": changed(
            truncation={
                "direction": "Right",
                "max_length": 16,
                "strategy": "LongestFirst",
                "stride": 0,
            },
        )
    },
    "filled to a batch's length": {
        "tokenizer.json": changed(
            padding={
                "strategy": {"Fixed": 64},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "<|endoftext|>",
            },
        )
    },
    "marked for training": with_template(
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    ),
    "asks whether there are tools": with_template(
        "{% if tools is not none %}{{ tools | tojson }}{% endif %}" + PLAIN_TEMPLATE
    ),
    "JSON with arguments": with_template(
        "{{ messages | tojson(ensure_ascii=False, indent=2, sort_keys=True) }}"
    ),
    "special tokens in their own file": {
        **_settings(bos_token=..., eos_token=...),
        "special_tokens_map.json": {"bos_token": "<|begin|>", "eos_token": "<|end|>"},
    },
    "special tokens as objects": _settings(
        bos_token=added_token("<|begin|>"), eos_token=added_token("<turn>", lstrip=True)
    ),
    "tokens added later": {
        **_settings(eos_token="<turn>"),
        "added_tokens.json": {"<turn>": 2048, "<think>": 2049},
    },
    "every special token in a template": with_template(
        "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}" + PLAIN_TEMPLATE
    ),
    "a template of its own, in Windows' lines": {
        "chat_template.jinja": "{% for m in messages %}\r\n{{ m.content }}\r\n{% endfor %}"
    },
    "templates by name, none the default": with_template([{"name": "rag", "template": "no"}]),
    "templates in a folder hide the settings'": {
        "additional_chat_templates/tool_use.jinja": "no",
        "chat_template.jinja": "yes",
    },
    "no template": _settings(chat_template=...),
    "no settings at all": {"tokenizer_config.json": None},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_means_what_it_means_to_transformers(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path, FOLDERS[name])
    assert ours(folder) == theirs(folder)


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": "LlamaTokenizerFast", "legacy": False},
        {"tokenizer_class": "LlamaTokenizer", "legacy": True},
        {"tokenizer_class": "LlamaTokenizer", "legacy": None, "add_prefix_space": None},
        {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "legacy": False},
    ],
    ids=str,
)
def test_spaces_are_where_the_tokenizers_class_puts_them(
    tmp_path: Path, family: str, fields: dict[str, object]
) -> None:
    files: Files = {
        "config.json": changed(model_type=family),
        "tokenizer.json": sentencepiece_tokenizer(),
        "tokenizer_config.json": sentencepiece_settings(**fields),
    }
    folder = write_folder(tmp_path, files)
    assert ours(folder) == theirs(folder)


def test_a_byte_level_tokenizer_of_that_class_is_as_its_file_says(tmp_path: Path) -> None:
    """As Llama 3's fine-tunes have it."""
    folder = write_folder(tmp_path, _settings(tokenizer_class="LlamaTokenizerFast"))
    assert ours(folder) == theirs(folder)


@settings(max_examples=60, derandomize=True)
@given(tokenizer_files())
def test_any_folder_means_what_it_means_to_transformers(files: Files) -> None:
    with TemporaryDirectory() as directory:
        folder = write_folder(Path(directory), files)
        assert ours(folder) == theirs(folder)
