"""Calls go one way, downwards."""

import ast

from servers import ROOT

CALLS = {
    "main": {"db", "badge", "database_url", "batch"},
    "db": {"connection", "database_url", "batch"},
    "connection": {"database_url"},
    "database_url": {"batch"},
    "counters": {"database_url", "batch"},
    "batch": set(),
    "badge": set(),
}


def test_no_module_imports_one_above_it():
    for path in ROOT.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        assert imported & CALLS.keys() <= CALLS[path.stem], path.name
