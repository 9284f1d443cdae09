"""What a server is told when it starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where a server listens, who may do what, and how much of it."""

    index: str | None = None
    """The index that answers; None: only the run is shown."""
    host: str = "127.0.0.1"
    port: int = 8765
    workers: int = 1
    """Processes that answer."""
    device: str = "cpu"
    token: str | None = None
    """Who knows it may change the index; listening elsewhere than on this machine, whoever asks must know it."""
    read_only: bool = False
    names: tuple[str, ...] = ()
    """Names besides localhost and plain addresses by which browsers may call this machine."""
    upload_mb: float = 25.0
    """Most bytes of a request, in 10^6."""
    rate: float | None = None
    """Requests a second and address; None: 50 where it listens elsewhere, without limit on this machine alone."""
    body_s: float = 30.0
    """A request must be here whole after so many seconds."""
    head_s: float = 10.0
    """And its head after so many."""
    run: str | None = None
    """The folder of a finished run that is shown."""
    compare: str | None = None
    """Another one beside it."""
    data: str | None = None
    """The run's collection; None: it lies beside the run."""
    root: str | None = None
    """Where its photos lie now, if they have moved."""

    def __post_init__(self) -> None:
        if self.index is None and self.run is None:
            raise ValueError("nothing to serve; name an INDEX, or a finished run as --run, or both")
        for name in ("compare", "data", "root"):
            if self.run is None and getattr(self, name) is not None:
                raise ValueError(f"--{name} is of a run; name the run as --run, too")
        if not self.local and not self.token:
            raise ValueError(
                f"--host {self.host} lets other machines ask; give a --token (or LANDSEER_TOKEN), or leave out --host"
            )
        if self.token is not None and (
            len(self.token) < 8 or not self.token.isascii() or not self.token.isprintable()
        ):
            raise ValueError("--token: give at least 8 plain letters, digits or signs")
        for name in self.names:
            if not name or any(sign in name for sign in "/:@ "):
                raise ValueError(f"--name {name!r} is no name of a machine; give it without http:// and port")

    @property
    def local(self) -> bool:
        """Whether only this machine can ask."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def writable(self) -> bool:
        """Whether the index can be changed by who knows the token."""
        return self.index is not None and self.token is not None and not self.read_only

    @property
    def upload_bytes(self) -> int:
        """Most bytes of a request."""
        return int(self.upload_mb * 1_000_000)

    @property
    def rate_here(self) -> float | None:
        """Requests a second, address and process."""
        rate = self.rate if self.rate is not None else (None if self.local else 50.0)
        return None if not rate else rate / self.workers
