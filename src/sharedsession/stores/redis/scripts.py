"""The scripts of the writes: a server runs each as one step.

A write sends something to the replicas whenever it succeeds, also when it finds that it was run
before: WAIT waits for what its own connection has sent, and for nothing else.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .._support.head import LONGEST, LONGEST_VERSION
from ..base import TOKEN_BYTES

if TYPE_CHECKING:
    from .servers import Request

# Finds the tokens in a head (`_support.head`), and where they begin; '' where there is none.
_HEAD = f"""
local head = redis.call('GETRANGE', KEYS[1], 0, {LONGEST - 1})
local first = string.byte(head) or 255
local start = math.floor(first / 4) + 2
local stop = start + {TOKEN_BYTES} * (first % 4 + 1) - 1
local has_head = start <= {LONGEST_VERSION + 2} and #head >= stop
local tokens = has_head and string.sub(head, start, stop) or ''
"""
# ARGV: the tokens that were loaded, the new string, its lifetime, NX (create) or XX (replace). The
# answer is 1 (done), 2 (done before), or the tokens that stand in the way.
SWAP = f"""{_HEAD}
if tokens == ARGV[1] and redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3], ARGV[4]) then
  return 1
end
local own = math.floor(string.byte(ARGV[2]) / 4) + 2
own = string.sub(ARGV[2], own, own + {TOKEN_BYTES - 1})
for at = 1, #tokens, {TOKEN_BYTES} do
  if string.sub(tokens, at, at + {TOKEN_BYTES - 1}) == own then
    redis.call('SETRANGE', KEYS[1], 0, string.sub(head, 1, 1))
    return 2
  end
end
return tokens
"""
# ARGV: the tokens that were loaded, or nothing: then whatever stands under the key is removed. The
# answer is 1 (removed), 2 (absent), or 0 (another write came first). A full server runs it too. DEL
# is for a user who may not UNLINK.
_UNLESS_OVERTAKEN = f"""
local function remove()
  local removed = redis.pcall('UNLINK', KEYS[1])
  return type(removed) == 'number' and removed or redis.call('DEL', KEYS[1])
end
{_HEAD}
if ARGV[1] and head ~= '' and tokens ~= ARGV[1] then
  return 0
end
if remove() == 1 then
  return 1
end
"""
ERASE = f"{_UNLESS_OVERTAKEN}return 2"
# Removing what is absent would send nothing. Only a server that is full refuses the SET.
ERASE_CONFIRMED = f"""{_UNLESS_OVERTAKEN}
redis.pcall('SET', KEYS[1], '', 'PX', 1000)
remove()
return 2
"""
# What stands under each key, and for how many milliseconds it will; -1 where that may not be asked.
LOOK = """
local found = {}
for number, key in ipairs(KEYS) do
  local left = redis.pcall('PTTL', key)
  found[number] = {redis.call('GET', key), type(left) == 'number' and left or -1}
end
return found
"""
SHAS = {
    script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (SWAP, ERASE, ERASE_CONFIRMED, LOOK)
}
SCRIPTS = {sha: script for script, sha in SHAS.items()}


def bring_script(request: Request) -> None:
    """Let the request bring its script along, for a server that does not know it."""
    _, sha, *rest = request.command
    request.command = ("EVAL", SCRIPTS[str(sha)], *rest)
