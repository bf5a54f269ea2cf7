"""A server that refuses to start with a message that tells its secret."""

import os

from wire import answer, requests

for request in requests():
    answer(request, error={"code": -32000, "message": f"no licence for {os.environ['TOKEN']}"})
