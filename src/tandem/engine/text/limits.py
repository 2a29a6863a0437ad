"""What rendering and tokenising may cost."""

from __future__ import annotations

import msgspec

from tandem.engine.text.jobs import Job

_MIB = 1024 * 1024


class TextLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Processor time of one request's texts: `job_s`, and `mib_s` for each MiB of them.

    `memory_bytes` is what a job may allocate. `wall_s` bounds the wait for a process that gets no
    processor; `waiting` the jobs before it. Up to `small_bytes` a request's texts wait for others
    like them alone, and never for large ones.
    """

    job_s: float = 1.0
    mib_s: float = 4.0
    memory_bytes: int = 2048 * _MIB
    wall_s: float = 30.0
    waiting: int = 1024
    small_bytes: int = 16 * 1024

    def processor_s(self, job: Job) -> float:
        return self.job_s + self.mib_s * job.size / _MIB
