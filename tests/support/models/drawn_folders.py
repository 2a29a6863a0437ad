"""Folders as hypothesis draws them: every file may hold something of a model, at odds or not."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from tests.support.models.folders import Files, added_token, changed

#: Some are in the shipped vocabulary, as tokens of their own, as ordinary pieces, or not at all.
_TOKENS = ["<|begin|>", "<|end|>", "<|endoftext|>", "<|user|>", "the", "<new>", "<tool call>", "né"]
_NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"]
_FLAGS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["lstrip", "rstrip", "single_word", "normalized", "special"], st.booleans()
    ),
)
_CONTENT = st.sampled_from(_TOKENS)
_OBJECT = st.builds(lambda content, flags: added_token(content, **flags), _CONTENT, _FLAGS)
_TOKEN = st.none() | _CONTENT | _OBJECT
_MAPPED = (
    st.none()
    | _CONTENT
    | _OBJECT.map(
        lambda token: {
            name: value for name, value in token.items() if name not in ("__type", "special")
        }
    )
)
_TEMPLATES = """
{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}
---
{% for m in messages %}
  {% generation %}
    {{ m['content'] | trim }}
  {% endgeneration %}
{% endfor %}
---
{%- if tools is not none %}{{ tools | tojson }}{% endif -%}
---
{% if documents is none %}no documents{% endif %}
---
{{ messages | tojson(ensure_ascii=True, indent=1, sort_keys=true) }}
---
{{ messages[0] | tojson(separators=(',', ':')) }}
---
{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ unk_token }}{{ sep_token }}{{ mask_token }}
---
{{ image_token }}{{ undefined_thing }}
---
{% set ns = namespace(seen=0) %}
{% for m in messages %}
    {% if m.role == 'system' %}{% continue %}{% endif %}
    {% set ns.seen = ns.seen + 1 %}
{% endfor %}
{{ ns.seen }}
---
{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ loop.last }}{% endfor %}
---
  {% if add_generation_prompt %}
<|assistant|>{% endif %}

---
{% if strftime_now is defined %}{{ strftime_now('%Z|') }}{% endif %}
---
{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}
---
{% for m in messages %}{% generation %}{{ loop.index }}{{ m.role }}{% endgeneration %}{% endfor %}
---
{% macro say(m) %}{{ m.name }}: {{ m.content }}{% endmacro %}{{ say(messages[-1]) }}\r
---
{{ dict(a=1, b=[none, true]) | tojson }}{{ 'é' | tojson }}{{ '<&>' | upper }}
---
{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}short
"""
_PIECE = st.sampled_from(_TEMPLATES.split("---\n"))
_TEMPLATE = st.lists(_PIECE, min_size=1, max_size=4).map("".join)
_NAMED = st.lists(_TEMPLATE, min_size=1, max_size=2).map(
    lambda found: [
        {"name": name, "template": text}
        for name, text in zip(("default", "tool_use"), found, strict=False)
    ]
)


@st.composite
def tokenizer_files(draw: st.DrawFn) -> Files:
    """The files that a tokenizer and its chat template are read from."""
    fields: dict[str, Any] = {
        name: draw(_TOKEN) for name in draw(st.sets(st.sampled_from(_NAMES), max_size=4))
    }
    fields["chat_template"] = draw(_TEMPLATE | _NAMED)
    if draw(st.booleans()):
        fields["image_token"] = draw(_CONTENT)
    if draw(st.booleans()):
        field = draw(st.sampled_from(["extra_special_tokens", "additional_special_tokens"]))
        fields[field] = draw(st.lists(_CONTENT | _OBJECT, max_size=3))
    if draw(st.booleans()):
        fields["split_special_tokens"] = draw(st.booleans())
    files: Files = {"tokenizer.json": changed(**draw(_LEFT_BY_TRAINING))}
    if draw(st.booleans()):
        tokens = draw(st.lists(_OBJECT, max_size=3, unique_by=lambda token: token["content"]))
        fields["added_tokens_decoder"] = {
            str(number): _without(token, "__type")
            for number, token in enumerate(tokens, draw(st.sampled_from([0, 2046, 2048])))
        }
    if draw(st.booleans()):
        names = draw(st.sets(st.sampled_from(_NAMES), max_size=3))
        files["special_tokens_map.json"] = {name: draw(_MAPPED) for name in names}
    if draw(st.booleans()):
        # The library takes what is an object elsewhere for ordinary here, by mistake.
        plain = [token for token in _TOKENS if f'"{token}"' not in _objects_in(fields)]
        later = draw(st.lists(st.sampled_from(plain), max_size=3, unique=True))
        files["added_tokens.json"] = {text: number for number, text in enumerate(later, 2048)}
    if draw(st.booleans()):
        files["chat_template.jinja"] = draw(_TEMPLATE)
    if draw(st.integers(0, 3)) == 0:
        files["additional_chat_templates/tool_use.jinja"] = draw(_TEMPLATE)
    kept = {name: ... for name in ("bos_token", "eos_token", "pad_token") if draw(st.booleans())}
    files["tokenizer_config.json"] = changed(**(kept | fields))
    return files


def _objects_in(fields: dict[str, Any]) -> str:
    values = [*fields.values(), *fields.get("extra_special_tokens", ())]
    values += fields.get("additional_special_tokens", ())
    return json.dumps([v for v in values if isinstance(v, dict)], ensure_ascii=False)


def _without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


_LEFT_BY_TRAINING = st.fixed_dictionaries(
    {},
    optional={
        "truncation": st.just(
            {"direction": "Right", "max_length": 9, "strategy": "LongestFirst", "stride": 0}
        ),
        "padding": st.just(
            {
                "strategy": {"Fixed": 40},
                "direction": "Left",
                "pad_to_multiple_of": None,
                "pad_id": 1,
                "pad_type_id": 0,
                "pad_token": "<|begin|>",
            }
        ),
    },
)
