"""REST and the explorer: a thin client of the pipeline."""

from landseer.server.running import serve
from landseer.server.settings import ServerSettings

__all__ = ["ServerSettings", "serve"]
