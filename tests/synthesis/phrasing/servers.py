"""Tools that nobody wrote wordings for."""

from dualtune_mlx.tools import Tool


def _tool(server: str, name: str, description: str, required: str = "", **properties: dict) -> Tool:
    parameters = {"type": "object", "properties": properties, "required": required.split()}
    return Tool(name, description, parameters, server)


TEXT = {"type": "string"}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 500}
TRACKER = (
    _tool("tracker", "create_issue", "Create a new issue in a project.", "title", project=TEXT, title=TEXT, body=TEXT),
    _tool(
        "tracker",
        "list_issues",
        "List issues of a project. Returns titles, states and authors.",
        "",
        project=TEXT,
        state={"type": "string", "enum": ["open", "closed"]},
        limit=NUMBER,
    ),
    _tool("tracker", "getIssue", "Retrieves one issue by its ID.", "issue_id", issue_id=TEXT),
    _tool("tracker", "delete_issue", "", "issue_id", issue_id=TEXT),
    _tool(
        "tracker",
        "add_labels_to_issue",
        "Adds labels to an existing issue.",
        "issue_id labels",
        issue_id=TEXT,
        labels={"type": "array", "items": TEXT, "minItems": 1},
    ),
    _tool("tracker", "move-issue", "Move an issue.", "source target", source=TEXT, target=TEXT),
    _tool("tracker", "search_comments", "Search for comments.", "query", query=TEXT, archived={"type": "boolean"}),
)
CALENDAR = (
    _tool("calendar", "CreateEventTool", "Add an event to the calendar.", "title start", title=TEXT, start=TEXT),
    _tool("calendar", "ListEventsTool", "List the events of a day.", "", day={"type": "string", "format": "date"}),
)
