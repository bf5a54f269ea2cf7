"""The MCP servers whose tools are tried: where each comes from, and how it starts without its service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Package:
    """A server as a package of a registry. Its keys and addresses are made up: it is only asked for its tools."""

    registry: Literal["npm", "pypi"]
    requirement: str
    program: str
    args: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)


def npm(requirement: str, program: str, *args: str, **env: str) -> Package:
    """A package of the npm registry, and its program in ``node_modules/.bin``."""
    return Package("npm", requirement, program, args, env)


def pypi(requirement: str, program: str, *args: str, **env: str) -> Package:
    """A package of PyPI, and its program in the environment's ``bin``."""
    return Package("pypi", requirement, program, args, env)


PACKAGES = {
    "atlassian": pypi(
        "mcp-atlassian==0.23.1",
        "mcp-atlassian",
        JIRA_URL="https://jira.invalid",
        JIRA_USERNAME="x",
        JIRA_API_TOKEN="x",
        CONFLUENCE_URL="https://confluence.invalid",
        CONFLUENCE_USERNAME="x",
        CONFLUENCE_API_TOKEN="x",
    ),
    "brave-search": npm(
        "@modelcontextprotocol/server-brave-search@0.6.2", "mcp-server-brave-search", BRAVE_API_KEY="x"
    ),
    "calculator": pypi("mcp-server-calculator==0.2.1", "mcp-server-calculator"),
    "chart": npm("@antv/mcp-server-chart@0.9.10", "mcp-server-chart"),
    "chrome-devtools": npm("chrome-devtools-mcp@1.11.0", "chrome-devtools-mcp"),
    "clickhouse": pypi(
        "mcp-clickhouse==0.7.0",
        "mcp-clickhouse",
        CLICKHOUSE_HOST="localhost",
        CLICKHOUSE_USER="x",
        CLICKHOUSE_PASSWORD="x",
    ),
    "code-runner": npm("mcp-server-code-runner@0.1.8", "mcp-server-code-runner"),
    "context7": npm("@upstash/context7-mcp@4.1.1", "context7-mcp"),
    "desktop-commander": npm("@wonderwhy-er/desktop-commander@0.2.52", "desktop-commander"),
    "drawio": npm("@drawio/mcp@1.6.1", "drawio-mcp"),
    "eslint": npm("@eslint/mcp@0.3.13", "mcp"),
    "excel": pypi("excel-mcp-server==2.2.2", "excel-mcp-server", "stdio"),
    "figma": npm("figma-developer-mcp@0.13.2", "figma-developer-mcp", "--stdio", "--figma-api-key=x"),
    "github": npm(
        "@modelcontextprotocol/server-github@2025.4.8", "mcp-server-github", GITHUB_PERSONAL_ACCESS_TOKEN="x"
    ),
    "gitlab": npm(
        "@modelcontextprotocol/server-gitlab@2025.4.25", "mcp-server-gitlab", GITLAB_PERSONAL_ACCESS_TOKEN="x"
    ),
    "google-calendar": npm(
        "@cocal/google-calendar-mcp@2.6.3", "google-calendar-mcp", GOOGLE_OAUTH_CREDENTIALS="{home}/client.json"
    ),
    "google-maps": npm(
        "@modelcontextprotocol/server-google-maps@0.6.2", "mcp-server-google-maps", GOOGLE_MAPS_API_KEY="x"
    ),
    "grafana": pypi("mcp-grafana==2.1.1", "mcp-grafana", GRAFANA_URL="http://localhost:3000", GRAFANA_API_KEY="x"),
    "hostinger": npm("hostinger-api-mcp@1.63.2", "hostinger-api-mcp", API_TOKEN="x"),
    "kubernetes": npm("mcp-server-kubernetes@4.1.7", "mcp-server-kubernetes"),
    "linear": npm("@tacticlaunch/mcp-linear@1.4.3", "mcp-linear", LINEAR_API_TOKEN="x"),
    "markitdown": pypi("markitdown-mcp==0.0.1a8", "markitdown-mcp"),
    "monday": npm("@mondaydotcomorg/monday-api-mcp@3.3.0", "mcp-server-monday-api", "-t", "x"),
    "notion": npm("@notionhq/notion-mcp-server@2.5.2", "notion-mcp-server", NOTION_TOKEN="x"),
    "opensearch": pypi(
        "opensearch-mcp-server-py==0.12.0", "opensearch-mcp-server-py", OPENSEARCH_URL="http://localhost:9200"
    ),
    "playwright": npm("@playwright/mcp@0.0.83", "playwright-mcp"),
    "postgres": npm("@modelcontextprotocol/server-postgres@0.6.2", "mcp-server-postgres", "postgresql://localhost/x"),
    "puppeteer": npm("@modelcontextprotocol/server-puppeteer@2025.5.12", "mcp-server-puppeteer"),
    "slack": npm(
        "@modelcontextprotocol/server-slack@2025.4.25", "mcp-server-slack", SLACK_BOT_TOKEN="x", SLACK_TEAM_ID="x"
    ),
    "trello": npm("@delorenj/mcp-server-trello@1.8.1", "mcp-server-trello", TRELLO_API_KEY="x", TRELLO_TOKEN="x"),
    "word": pypi("office-word-mcp-server==1.1.11", "word_mcp_server"),
    "yahoo-finance": pypi("mcp-yahoo-finance==0.2.0", "mcp-yahoo-finance"),
}
