"""Observability: what an app tells of its calls, in logs, metrics, traces and health checks."""
