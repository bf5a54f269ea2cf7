"""A server that ends before it answers, and tells its secret on stderr."""

import os
import sys

print("many lines\n" * 50 + f"KeyError: no such account, token {os.environ['TOKEN']}", file=sys.stderr)
sys.exit(1)
