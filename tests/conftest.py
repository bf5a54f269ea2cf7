"""Before any test module can import MLX: on Linux the package puts OpenBLAS in the process first."""

import dualtune_mlx  # noqa: F401
