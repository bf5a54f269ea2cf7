"""A server with the tools of a JSON text; a call is answered with its arguments."""

import json
import sys

from wire import serve, text

serve(json.loads(sys.argv[1]), lambda name, arguments: text(json.dumps(arguments)))
