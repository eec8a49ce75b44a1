"""Limits: how many requests a caller may make, and how many of them a process works on at the same time."""

from apex.limits.queues import FairQueue
from apex.limits.rates import FailureLimit, Rate, RateLimiter, Rates, rates

__all__ = ["FailureLimit", "FairQueue", "Rate", "RateLimiter", "Rates", "rates"]
