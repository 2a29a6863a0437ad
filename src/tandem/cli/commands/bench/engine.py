"""`tandem bench engine`: how fast the engine is here, in bfloat16 and in int8."""

from __future__ import annotations

from tandem.cli.bench_options import EngineBenchOptions, Part, measure
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import Json


def engine(options: EngineBenchOptions, json: Json = False) -> None:
    """Measures the engine by itself, in bfloat16 and in int8, which take turns.

    shapes: prefill, and decoding of 1 to 16 sequences of one length. streams: answers of different
    lengths, sixteen at a time. Beside them what int8 and batches gain. A model whose files have it
    in few bits is measured as that alone.

    \b
    Examples:
      tandem bench engine
      tandem bench engine --only shapes --size 300m --rounds 5 --json
      tandem bench engine --model ./my-model --threads 8
    """
    require_torch_extra()
    from tandem.bench import OWN, own_ratios

    measure(options, dict.fromkeys(Part, OWN), own_ratios, json=json)
