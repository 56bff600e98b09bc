"""Questions to single nodes of a syntax tree that each grammar answers in its own way."""

from __future__ import annotations

from tree_sitter import Node

DEEPEST = 12
"""Levels of nodes that are looked into for definitions; what lies deeper is text of the definition around it."""

LONGEST_HEADER = 1500
"""Bytes of a header that are read."""

_ASSIGNMENTS = frozenset(
    {"variable_declarator", "assignment_expression", "assignment_statement", "assignment", "expression_list"}
)
SEVERAL = frozenset({"const_spec", "var_spec", "const_element", "variable_declarator", "variable_assignment"})
"""Parts of a declaration that each define a name."""

TYPE_BODIES = frozenset({"struct_type", "interface_type"})
"""What makes a type of Go one with members."""

_QUALIFIED = frozenset({"qualified_identifier", "scoped_identifier", "member_expression"})
_NAMING = _ASSIGNMENTS | SEVERAL | {"variable_list", "function_declarator", "pointer_declarator", "name", "identifier"}


def text_of(node: Node, source: bytes, limit: int = LONGEST_HEADER) -> str:
    """Return a node's text, at most ``limit`` bytes of it."""
    start, end = node.byte_range
    return source[start : min(end, start + limit)].decode("utf-8", "replace")


def name_node(node: Node) -> Node | None:
    """Return the node that spells the name: C hides it below declarators, others below an assignment."""
    found = node
    for _ in range(DEEPEST):
        below = None if found.type in _QUALIFIED else _named_part(found)
        if below is None and (found is node or found.type.endswith("declarator") or found.type in _ASSIGNMENTS):
            below = next((child for child in found.named_children if child.type in _NAMING), None)
        if below is None:
            return None if found is node else found
        found = below
    return None


def _named_part(node: Node) -> Node | None:
    fields = ("type",) if node.type == "impl_item" else ("name", "declarator", "left", "property")
    return next((part for field in fields if (part := node.child_by_field_name(field)) is not None), None)


def assignment_in(statement: Node) -> Node | None:
    """Return the first assignment directly in a statement."""
    return next((child for child in statement.named_children if child.type in _ASSIGNMENTS), None)


def assigned_value(node: Node) -> Node | None:
    """Return what a declaration or an assignment assigns, if it assigns one thing."""
    found: Node | None = node
    for _ in range(4):
        if found is None:
            return None
        value = found.child_by_field_name("value") or found.child_by_field_name("right")
        if value is not None:
            return value
        found = assignment_in(found)
    return None


def body_of(node: Node) -> Node | None:
    """Return the part of a definition that holds its statements or members."""
    body = node.child_by_field_name("body")
    if body is None and node.type == "type_spec":
        body = node.child_by_field_name("type")
    return body


def end_of_header(parent: Node, body: Node) -> int:
    """Return the byte where the header before a body ends: in Python before the colon."""
    if body.type in TYPE_BODIES:
        inner = next((child for child in body.children if child.type in ("{", "field_declaration_list")), body)
        return inner.start_byte
    end = body.start_byte
    # From the parent down, as asking a node for its sibling walks there from the root of the tree.
    for child in parent.children:
        if child.start_byte >= body.start_byte or child.type == "field_initializer_list":
            break
        if child.type == ":" and body.type == "block":
            break
        if child.type != "comment":
            end = child.end_byte
    return end


def has_parameters(node: Node) -> bool:
    """Return whether a declaration in C declares a function."""
    found = node.child_by_field_name("declarator")
    for _ in range(DEEPEST):
        if found is None or found.type == "function_declarator":
            return found is not None
        found = found.child_by_field_name("declarator")
    return False


def end_row(node: Node) -> int:
    """Return the row behind a node's last one; nodes such as Rust's doc comments hold their line's end."""
    point = node.end_point
    return point.row if point.column == 0 and point.row > node.start_point.row else point.row + 1
