"""What a tenant's applications may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """For each request, unless said otherwise. Each application of a tenant has these."""

    cpu_time: float = 0.05
    """Seconds of computing."""
    wall_time: float = 30.0
    """Seconds from the request's head to the response's end."""
    memory: int = 128 << 20
    """Bytes of an instance's memories; a tenant's instances together may have `concurrency` times as much."""
    request_body: int = 8 << 20
    """Bytes of a request's body where the guest has it whole; a streamed body may have `streamed_body`."""
    response_body: int = 64 << 20
    streamed_body: int = 1 << 40
    concurrency: int = 64
    """Requests of the tenant at once that have an instance."""
    queue: int = 256
    """Requests of the tenant at once that wait for one; more are answered with 503."""
    outgoing_requests: int = 32
    outgoing_concurrency: int = 6
    """Outgoing requests at once."""
    log_bytes: int = 16384
    """Bytes of the guest's own log output."""
    log_rate: int = 1 << 20
    """Bytes of log output in a second, of all the tenant's requests."""
    kv_bytes: int = 64 << 20
    """Bytes of keys and values that the tenant's store holds."""
    kv_value: int = 25 << 20
    """Bytes of one value."""
