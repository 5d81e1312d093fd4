"""The suite that a plug-in's own tests call; passing it is what "works" means.

Subclass `SinkConformance` in a test module, under a name that begins with `Test`, and
give it three hooks:

    class TestMine(SinkConformance):
        @asynccontextmanager
        async def fresh(self): ...           # an open sink over empty storage
        @asynccontextmanager
        async def again(self, sink): ...     # another one over the same storage
        @asynccontextmanager
        async def cut_off(self, sink): ...   # inside, its server cannot be reached

`target_options` and `refused` are optional. What the suite makes is called
`conformance…`; the factory removes it when it closes.

The one thing to know: every test holds one promise of `bridge.sink` and asks the
storage itself, through `read`, `scan` and `count`, never the sink's memory alone.
"""

from bridge.sink.conformance.generations import GenerationPromises
from bridge.sink.conformance.hooks import Hooks
from bridge.sink.conformance.losses import LossPromises
from bridge.sink.conformance.writing import WritingPromises

__all__ = ["SinkConformance"]


class SinkConformance(WritingPromises, GenerationPromises, LossPromises, Hooks):
    """All promises of a sink as tests; the hooks are the plug-in's to give."""
