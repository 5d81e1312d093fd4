"""Every setting: `load` reads `pgbridge.toml`, everything else is handed parts of it.

The one thing to know: no other package reads the environment or the file.
"""

from bridge.config.limits import Limits
from bridge.config.plugins import load_plugin, plugin_types
from bridge.config.reading import DEFAULT_FILE, config_path, load
from bridge.config.settings import (
    Config,
    DaemonConfig,
    OnSlotLoss,
    SinkConfig,
    SourceConfig,
    TargetConfig,
    ViewConfig,
    connection_secrets,
)
from bridge.config.values import (
    AuditRate,
    HttpAddress,
    Secret,
    parse_duration,
    parse_size,
)

__all__ = [
    "DEFAULT_FILE",
    "AuditRate",
    "Config",
    "DaemonConfig",
    "HttpAddress",
    "Limits",
    "OnSlotLoss",
    "Secret",
    "SinkConfig",
    "SourceConfig",
    "TargetConfig",
    "ViewConfig",
    "config_path",
    "connection_secrets",
    "load",
    "load_plugin",
    "parse_duration",
    "parse_size",
    "plugin_types",
]
