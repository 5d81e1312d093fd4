"""The sinks that come with the bridge, a package each; read `memory` first.

The one thing to know: they are plug-ins like anybody's, found by entry point, and
import nothing of the bridge but `bridge.sink`.
"""
