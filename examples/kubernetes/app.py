"""A notepad for a cluster: notes are kept in the session, probes ask without one.

Every setting of the session comes from the environment, ``SHAREDSESSION_…``, which the manifests in
this folder set. The Dockerfile starts it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from sharedsession.asgi import SessionMiddleware

PATIENCE = 0.5  # seconds for the store, when a probe asks for it: less than the probe's own


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # For the one probe that asks the store: one try, since the next probe is another.
    store = Redis.from_url(os.environ["SHAREDSESSION_STORE"], retry=Retry(NoBackoff(), 0))
    async with store:
        app.state.store = store
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware)  # no arguments: the environment says it all


@app.get("/")
def about() -> dict[str, str]:
    """A page that uses no session: it is served while the store is down."""
    return {"about": "a notepad", "pod": os.environ.get("HOSTNAME", "")}


@app.get("/notes")
def notes(request: Request) -> dict[str, object]:
    return {"notes": request.session.get("notes", []), "pod": os.environ.get("HOSTNAME", "")}


@app.post("/notes")
async def add(request: Request) -> dict[str, object]:
    note = (await request.body()).decode()
    # mutate: two notes at the same time, on two pods, are two notes.
    request.session.mutate(lambda session: session.setdefault("notes", []).append(note))
    return {"notes": request.session["notes"]}


@app.post("/forget")
def forget(request: Request) -> dict[str, object]:
    request.session.destroy()  # on every pod, and for good
    return {"notes": []}


# --- probes: none of them touches a session -------------------------------------------------------


@app.get("/healthz")
async def alive() -> dict[str, str]:
    """Liveness: the process answers. Never the store: a restart does not bring that back."""
    return {"status": "alive"}


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """Readiness: the application has started. The store may be down: other pages are served."""
    return {"status": "ready"}


@app.get("/readyz/store")
async def ready_with_store(request: Request, response: Response) -> dict[str, str]:
    """Readiness, tied to the store: for applications without a page that could do without."""
    try:
        async with asyncio.timeout(PATIENCE):
            await request.app.state.store.ping()
    except (RedisError, OSError, TimeoutError):
        response.status_code = 503
        return {"status": "the store does not answer"}
    return {"status": "ready"}
