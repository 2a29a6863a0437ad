"""A layer's latent attention as a shard holds it, read from a checkpoint."""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.layers.groups import Scoring
from tandem.engine.backends.pytorch.layers.latent import HeadMaps, LatentAttention, Queries
from tandem.engine.backends.pytorch.layers.norm import RMSNorm
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint.config import Latent
from tandem.engine.checkpoint.layout import Norm
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.latent import LatentTensors

#: Whatever a config says of other norms.
_EPS = 1e-6


def load_latent_attention(
    tensors: LatentTensors,
    latent: Latent,
    scoring: Scoring,
    loader: ShardLoader,
    group: Communicator[torch.Tensor],
) -> LatentAttention:
    """This rank's heads, and what all ranks have before them. Raises CheckpointError."""

    def norm(found: Norm) -> RMSNorm:
        return RMSNorm(loader.read(found.weight, torch.float32), _EPS)

    queries = None
    if tensors.query_norm is not None:
        queries = Queries(norm(tensors.query_norm), loader.linear(tensors.queries))
    return LatentAttention(
        loader.linear(tensors.query_latent or tensors.queries, tensors.latent),
        queries,
        norm(tensors.latent_norm),
        # In numbers, whatever a file has: both of its halves are applied the other way round.
        HeadMaps(loader.read(tensors.heads.weight), latent),
        loader.linear(tensors.output),
        group,
        latent=latent,
        scoring=scoring,
    )
