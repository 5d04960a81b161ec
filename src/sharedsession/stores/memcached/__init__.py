"""Sessions in Memcached, on one server or spread over several: one item per session.

An item is a binary head, with the version and the tokens of the last few writes, the epoch (see
`ring`), and then the data. A replacement is the server's own compare-and-set, with the cas id that
the entry was loaded with; when it is refused, a look at the tokens tells a command that was
repeated from one that lost. The server expires the items; what is left of a lifetime is not read
back, so `Entry.expires` is None. Removing an entry compares its cas id as well, by the meta command
``md``, which needs no room.

Each key has one home among the servers, the same for the sync and the async client. A server that
is down is an outage for its keys: no other one takes its place, for that would find no session
where there is one. Each look at a session also reads the history that its server keeps; when that
is not the one this process knows, all servers are asked once more what lists were in use.

The order of steps is written once, as generators that yield a `Step` and are sent the answer. The
sync store runs them with pymemcache, the async one with connections of its own, a set for each
event loop, which that loop's own shutdown closes.
"""

from ..._core.extras import missing

try:
    from .asynchronous import AsyncMemcachedStore
    from .sync import MemcachedStore
except ModuleNotFoundError as error:
    raise missing(error, "memcached", "pymemcache") from error

__all__ = ["AsyncMemcachedStore", "MemcachedStore"]
