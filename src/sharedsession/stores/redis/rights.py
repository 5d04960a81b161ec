"""What a store does without, where its user of the server may not use a command.

A refusal is learned once and remembered. MGET becomes several GETs, EVALSHA becomes EVAL, UNLINK
becomes DEL. What a store cannot do without is an outage whose sentence names the rule to add.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from .scripts import bring_script

if TYPE_CHECKING:
    from .servers import Request

NAMED = re.compile(r"(?:run|execute) the '([\w|]+)' command")
IN_A_SCRIPT = re.compile(r"executing the script can't run this command")  # Redis 7.0 names none
SCRIPTED = "+get +getrange +set +setrange +unlink"


@dataclass(slots=True)
class Rights:
    """Which commands may be used, as far as refusals tell; one for all loops of a store."""

    mget: bool = True
    evalsha: bool = True
    unlink: bool = True

    def apply(self, request: Request) -> None:
        """Let a request that was not sent yet do without what was refused before."""
        name = request.command[0]
        if name == "EVALSHA" and not self.evalsha:
            bring_script(request)
        elif name == "UNLINK" and not self.unlink:
            request.command = ("DEL", *request.command[1:])

    def do_without(self, request: Request, answer: object) -> bool:
        """Let a request do without what it was refused for; say whether it is to be sent again.

        A script that the server does not know is brought along.
        """
        name = request.command[0]
        if isinstance(answer, NoScriptError):
            bring_script(request)
            return True
        if name not in ("EVALSHA", "UNLINK") or not is_refused(answer):
            return False
        if name == "EVALSHA":
            self.evalsha = False
        else:
            self.unlink = False
        self.apply(request)
        return True


def is_refused(answer: object) -> bool:
    """Say whether the server refuses the command itself, to this user or to everybody."""
    if isinstance(answer, NoPermissionError):
        return NAMED.search(str(answer)) is not None
    return isinstance(answer, ResponseError) and "unknown command" in str(answer).lower()


def advice(reason: str, prefix: str) -> str:
    """Return what to do about a refusal of the server's access control; empty for anything else."""
    if named := NAMED.search(reason):
        return f" (allow it: ACL SETUSER <user> +{named[1].lower()})"
    if IN_A_SCRIPT.search(reason):
        return f" (the store's scripts run {SCRIPTED}: ACL SETUSER <user> {SCRIPTED})"
    if re.search(r"permissions? to access", reason):
        return f" (allow the store's keys: ACL SETUSER <user> ~{prefix}*)"
    return ""
