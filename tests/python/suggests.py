"""Prints, as JSON, the `context` in the answer of quilt-mcp's search_suggest: as the function itself gives it, and as the
server does, which wraps each tool."""

import json

from quilt_mcp.context.handler import wrap_tool_with_context
from quilt_mcp.tools.search import search_suggest


class Factory:
    """Makes the contexts of requests."""

    def create_context(self):
        return "the request's own"


asked = {"partial_query": "test/", "limit": 5}
own = search_suggest(**asked, context="the user's")
wrapped = wrap_tool_with_context(search_suggest, Factory())(**asked)
print(json.dumps({"function": own["context"], "server": wrapped["context"]}))
