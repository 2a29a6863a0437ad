"""A checkpoint of few bits a number written in float32, for those who do not read it as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file

from tandem.engine import quantization_settings, read_config, tensor_shapes
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.gguf.choice import linked_parts


def is_quantised(model: Path) -> bool:
    """Whether it is a GGUF, or says how its weights are quantised."""
    return bool(linked_parts(model)) or quantization_settings(model) is not None


def expanded(model: Path, scratch: Path) -> Path:
    """The checkpoint with the numbers that its codes stand for, in a folder of `scratch`."""
    folder = scratch / "float32"
    folder.mkdir()
    for path in [*model.glob("*.json"), *model.glob("*.jinja")]:
        shutil.copy(path, folder)
    shapes = tensor_shapes(read_config(model))
    with open_weights(model, "pt", shapes) as weights:
        tensors = {name: weights.read(name).float().contiguous() for name in shapes}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    config["torch_dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config))
    return folder
