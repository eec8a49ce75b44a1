"""The documentation: each page is run from top to bottom as it is printed.

What a reader sees is what counts:

- ``bash``, ``python``, ``js`` and ``ts`` are run, in one shell for a page. A block that begins with a comment of
  nothing but a path is that file.
- A line of bash with the word "serve" is a server: it is left running, as in a terminal of its own. One that does not
  end in ``&`` takes the terminal of the one before, which is stopped.
- A page that asks ``http://localhost:3030`` before it serves anything gets a fresh demo there.
- A ``json`` or ``text`` block right behind a program is what it prints, and so are comments on lines of their own in
  bash. Where nothing is shown, all commands succeed, and no request is answered with an error.
- ``yaml`` has paths that the server answers, ``nginx`` is a part of a configuration that nginx takes.
- ``console`` is for what no test can run: ``test_pages.py`` lists it with the reason.

Any other block fails the tests.
"""
