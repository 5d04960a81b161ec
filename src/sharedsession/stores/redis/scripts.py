"""The scripts of the writes: a server runs each as one step.

A write sends something to the replicas whenever it succeeds, also when it finds that it was run
before: WAIT waits for what its own connection has sent, and for nothing else.
"""

from __future__ import annotations

import hashlib

from .routes import Request

# ARGV: the tokens that were loaded, the new string, its lifetime, NX (create) or XX (replace).
SWAP = """
local tokens = redis.call('GETRANGE', KEYS[1], 8, 39)
if tokens == ARGV[1] and redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3], ARGV[4]) then
  return 1
end
local own = string.sub(ARGV[2], 9, 16)
for start = 1, #tokens, 8 do
  if string.sub(tokens, start, start + 7) == own then
    redis.call('SETRANGE', KEYS[1], 8, string.sub(tokens, 1, 8))
    return 2
  end
end
return 0
"""
# Removing what is absent would send nothing.
ERASE = """
if redis.call('UNLINK', KEYS[1]) == 0 then
  redis.call('SET', KEYS[1], '', 'PX', 1000)
  redis.call('UNLINK', KEYS[1])
end
return 1
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
    for script in (SWAP, ERASE, LOOK)
}
SCRIPTS = {sha: script for script, sha in SHAS.items()}


def whole_script(request: Request) -> Request:
    """Return the request that brings its script along, for a server that does not know it."""
    key, command = request
    return key, ("EVAL", SCRIPTS[str(command[1])], *command[2:])
