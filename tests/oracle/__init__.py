"""A long-running program and tests that hold a whole app against its promise: no client misses anything."""
