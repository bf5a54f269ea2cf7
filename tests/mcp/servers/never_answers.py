"""A server that reads and says nothing; it writes its process id to the file it is given."""

import os
import sys
from pathlib import Path

Path(sys.argv[1]).write_text(str(os.getpid()))
for _ in sys.stdin:
    pass
