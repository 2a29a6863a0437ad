"""How long a stop may take, part by part, in one place.

`docker stop` and others kill what has not ended after ten seconds. So that long answers end with a
word rather than a cut, all parts together take less: a coordinator drains, tells what is left that
it stops, and closes; `tandem up` stops its providers after that, when they have nothing to do.
"""

from __future__ import annotations

#: What kills us waits this long.
STOP_LIMIT_S = 10.0
#: What runs may finish, at a coordinator or at a provider.
DRAIN_TIMEOUT_S = 5.0
#: What is left at a coordinator then gets its error event, and connections end.
CLOSE_TIMEOUT_S = 1.0
#: When `tandem up` kills a coordinator, and then a provider: their own limits and some air.
COORDINATOR_STOP_TIMEOUT_S = DRAIN_TIMEOUT_S + CLOSE_TIMEOUT_S + 1.5
PROVIDER_STOP_TIMEOUT_S = 2.0
