"""``python -m dualtune_mlx``: the command line."""

from dualtune_mlx.cli import main

main()
