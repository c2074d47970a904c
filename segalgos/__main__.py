"""Run the command ``segalgos`` as ``python -m segalgos``."""

from segalgos.cli import main

main()
