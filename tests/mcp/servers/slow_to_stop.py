"""A server that ignores the end of its input and the request to terminate."""

import os
import signal
import time

from wire import serve, text

signal.signal(signal.SIGTERM, signal.SIG_IGN)
serve([{"name": "pid", "inputSchema": {"type": "object"}}], lambda name, arguments: text(os.getpid()))
time.sleep(60)
