"""A server whose one tool answers with the line that it is given, whose id, 5, becomes the call's own."""

from wire import answer, requests, welcome

for request in requests():
    if request["method"] == "initialize":
        answer(request, result=welcome(request))
    elif request["method"] == "tools/list":
        answer(request, result={"tools": [{"name": "answer", "inputSchema": {}}]})
    else:
        line = request["params"]["arguments"]["line"]
        print(line.replace('"id": 5', f'"id": {request["id"]}', 1), flush=True)
