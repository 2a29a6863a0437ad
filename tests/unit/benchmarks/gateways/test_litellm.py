"""LiteLLM's configuration: every model leads to the one backend."""

from __future__ import annotations

import json

from benchmarks.gateways.litellm import proxy_config


def test_every_model_leads_to_the_backend() -> None:
    config = json.loads(proxy_config(8123, ["echo", "echo-4"]))
    assert [model["model_name"] for model in config["model_list"]] == ["echo", "echo-4"]
    for model in config["model_list"]:
        assert model["litellm_params"]["model"] == f"openai/{model['model_name']}"
        assert model["litellm_params"]["api_base"] == "http://127.0.0.1:8123/v1"
    assert config["litellm_settings"]["telemetry"] is False
