"""``python -m apex`` is the ``apex`` command."""

from apex.cli.commands import main

main()
