"""What tests of applications and of stores use; `stores` is the contract of a store as tests."""

from ._clock import Clock

__all__ = ["Clock"]
