"""``python -m apex`` is the ``apex`` command."""

from apex.cli import main

main()
