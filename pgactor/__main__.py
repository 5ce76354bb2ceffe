"""`python -m pgactor`."""

from .cli import main

main()
