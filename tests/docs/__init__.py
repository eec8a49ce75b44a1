"""Tests of the documentation: they run each page from top to bottom as it is printed.

- ``bash``, ``python``, ``js`` and ``ts`` blocks of a page run in one shell. A block that begins with a comment of
  nothing but a path is written to that file.
- A line of bash with the word "serve" starts a server, which goes on as in a terminal of its own. If the line does
  not end in ``&``, it takes the terminal of the server before and stops it.
- A page that requests ``http://localhost:3030`` before it serves anything gets a fresh demo there.
- A ``json`` or ``text`` block right after a program is its output. So are comments on lines of their own in bash. If a
  page shows no output, all commands must succeed, and no request may be answered with an error.
- ``yaml`` contains paths that the server must answer. ``nginx`` is a part of a configuration that nginx must accept.
- ``console`` is for commands that no test can run. ``test_pages.py`` lists them with the reason.

Any other block fails the tests.
"""
