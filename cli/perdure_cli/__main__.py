"""`python -m perdure_cli`."""

from perdure_cli.main import main

main()
