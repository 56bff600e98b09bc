"""The definitions of a file as a tree of items with rows: what chunks, symbols and signatures are made from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tree_sitter import Node, Tree

from intract_lsp.index.grammars import Role, Spec
from intract_lsp.index.nodes import (
    DEEPEST,
    LONGEST_HEADER,
    SEVERAL,
    TYPE_BODIES,
    assigned_value,
    assignment_in,
    body_of,
    end_of_header,
    end_row,
    has_parameters,
    name_node,
    text_of,
)

_FUNCTION_VALUES = frozenset({"arrow_function", "function_expression", "generator_function", "function_definition"})
_CLASS_VALUES = frozenset({"class"})
_RECORD_BODIES = ("struct_specifier", "union_specifier", "enum_specifier", "class_specifier")

_IDENTIFIER = re.compile(r"[^\W\d][\w$?!]*")
_NAME = re.compile(r"(?:[\w$#?!@~]|-(?!>))+|operator.*", re.DOTALL)
_GENERIC = re.compile(r"<[^<>]*>")
_RECEIVER = re.compile(r"([^\W\d]\w*)\s*(?:\[.*)?\)$", re.DOTALL)
_ANNOTATIONS = re.compile(r"(?:@(?!interface\b)[\w.]+(?:\([^()]*\))?\s+|#?\[[^\[\]]*\]\s*)+")
_OWN_NAMESPACES = frozenset({"exports", "module.exports", "this", "window", "globalThis"})


@dataclass(slots=True)
class Item:
    """A definition, its members included."""

    role: Role
    name: str
    container: str
    """Qualified name of the type that it belongs to; empty where it stands for itself."""
    node: Node
    start: int
    """First row, with decorators, attributes and the comment directly above."""
    end: int
    """The row behind the last one."""
    header_start: int
    header_end: int
    """The row behind the header's last one."""
    header: str
    """From ``def``, ``class`` or the like up to the body, as written; all of it where there is no body."""
    body: Node | None = None
    members: list[Item] = field(default_factory=list)
    fields: list[Node] = field(default_factory=list)
    decorators: list[str] = field(default_factory=list)

    @property
    def qualified(self) -> str:
        """The name behind those of the types that it stands in."""
        return f"{self.container}.{self.name}" if self.container else self.name

    @property
    def is_method(self) -> bool:
        """Whether it belongs to a type."""
        return self.container != ""


def outline(tree: Tree, source: bytes, spec: Spec) -> list[Item]:
    """Return the definitions of a file in the order in which they stand in it."""
    return list(_Walk(source, spec).items(tree.root_node, "", in_class=None, depth=0))


class _Walk:
    def __init__(self, source: bytes, spec: Spec) -> None:
        self._source = source
        self._roles = spec.roles
        self._closer = spec.closer

    def items(self, parent: Node, container: str, *, in_class: Item | None, depth: int) -> Iterator[Item]:
        """Yield the definitions directly below a node; its other parts of interest become ``in_class``'s fields."""
        above: list[Node] = []
        last_row = -1
        for node in parent.named_children:
            role = self._roles.get(node.type)
            first_row = node.start_point.row
            if role in (Role.COMMENT, Role.ATTRIBUTE):
                # A comment that ends a line of code belongs to that line.
                if first_row != last_row:
                    if above and end_row(above[-1]) < first_row and role is Role.COMMENT:
                        above = []
                    above.append(node)
                continue
            last_row = node.end_point.row
            if above and end_row(above[-1]) < first_row:
                above = []
            if role is not None:
                yield from self._node(node, role, above, container, in_class, depth)
            above = []

    def _node(
        self, node: Node, role: Role, above: list[Node], container: str, in_class: Item | None, depth: int
    ) -> Iterator[Item]:
        if role is Role.FIELD:
            if in_class is not None:
                in_class.fields.append(node)
        elif role is Role.TRANSPARENT:
            if depth < DEEPEST:
                yield from self.items(node, container, in_class=in_class, depth=depth + 1)
        elif role in (Role.WRAPPER, Role.DECORATED):
            yield from self._wrapped(node, role, above, container, in_class, depth)
        elif role is Role.VALUE:
            yield from self._value(node, node, above, container, in_class)
        else:
            yield from self._definition(node, node, node, role, above, container, depth)

    def _wrapped(
        self, wrapper: Node, role: Role, above: list[Node], container: str, in_class: Item | None, depth: int
    ) -> Iterator[Item]:
        inner = [(child, found) for child in wrapper.named_children if (found := self._inner_role(child)) is not None]
        if len(inner) > 1 and depth < DEEPEST:
            yield from self.items(wrapper, container, in_class=in_class, depth=depth + 1)
            return
        for node, found in inner[:1]:
            if found in (Role.WRAPPER, Role.DECORATED):
                if depth < DEEPEST:
                    yield from self._wrapped(node, found, above or [wrapper], container, in_class, depth + 1)
            elif found is Role.VALUE:
                yield from self._value(node, wrapper, above, container, in_class)
            else:
                header = node if role is Role.DECORATED else wrapper
                yield from self._definition(node, wrapper, header, found, above, container, depth)

    def _inner_role(self, node: Node) -> Role | None:
        role = self._roles.get(node.type)
        return None if role in (Role.COMMENT, Role.ATTRIBUTE, Role.TRANSPARENT, Role.FIELD) else role

    def _definition(
        self, node: Node, outer: Node, header: Node, role: Role, above: list[Node], container: str, depth: int
    ) -> Iterator[Item]:
        body, within = body_of(node), node
        if node.type in _RECORD_BODIES and body is None:
            return
        if node.type == "type_spec" and (body is None or body.type not in TYPE_BODIES):
            role, body = Role.TYPE, None
        if role is Role.NAMESPACE and body is None:
            return
        if role is Role.TYPE and node.type == "type_definition":
            record = node.child_by_field_name("type")
            if record is not None and record.type in _RECORD_BODIES and (inner := body_of(record)) is not None:
                role, body, within = Role.CLASS, inner, record
        own, owner = self._name(node)
        if not own:
            return
        item = self._item(role, own, _join(container, owner), outer, header, None if body is None else within, above)
        if outer is not node:
            item.decorators = [
                text_of(child, self._source, 200) for child in outer.named_children if child.type == "decorator"
            ]
        if role in (Role.CLASS, Role.EXTENSION, Role.NAMESPACE) and body is not None and depth < DEEPEST:
            inside = container if role is Role.NAMESPACE else item.qualified
            in_class = None if role is Role.NAMESPACE else item
            item.members = list(self.items(body, inside, in_class=in_class, depth=depth + 1))
        yield item

    def _value(
        self, node: Node, outer: Node, above: list[Node], container: str, in_class: Item | None
    ) -> Iterator[Item]:
        record = node.child_by_field_name("type") if node.type == "declaration" else None
        if record is not None and record.type in _RECORD_BODIES and body_of(record) is not None:
            yield from self._definition(record, outer, outer, Role.CLASS, above, container, DEEPEST - 1)
            return
        value = assigned_value(node)
        if value is not None and value.type in _FUNCTION_VALUES | _CLASS_VALUES:
            name, owner = self._name(node)
            if name:
                role = Role.CLASS if value.type in _CLASS_VALUES else Role.FUNCTION
                item = self._item(role, name, _join(container, owner), outer, outer, value, above)
                if role is Role.CLASS and item.body is not None:
                    item.members = list(self.items(item.body, item.qualified, in_class=item, depth=DEEPEST))
                yield item
            return
        if in_class is not None:
            if node.type != "expression_statement" or assignment_in(node) is not None:
                in_class.fields.append(node)
            return
        yield from self._constants(node, outer, above, container)

    def _constants(self, node: Node, outer: Node, above: list[Node], container: str) -> Iterator[Item]:
        several = [child for child in node.named_children if child.type in SEVERAL]
        if not several and node.named_child_count == 1 and node.named_children[0].type == "var_spec_list":
            several = [child for child in node.named_children[0].named_children if child.type in SEVERAL]
        if len(several) > 1:
            keyword = self._source[outer.start_byte : several[0].start_byte].decode("utf-8", "replace")
            keyword = keyword.partition("(")[0].strip()
            for part in several:
                name, _ = self._name(part)
                if _IDENTIFIER.fullmatch(name):
                    item = self._item(Role.VALUE, name, container, part, part, None, [])
                    item.header = f"{keyword} {item.header}"
                    yield item
            return
        named = several[0] if several else node
        if named.type == "expression_statement" and assignment_in(named) is None:
            return
        name, owner = self._name(named)
        if not _IDENTIFIER.fullmatch(name) or name == "exports" or owner:
            return
        declares_function = node.type == "declaration" and has_parameters(node)
        role = Role.FUNCTION if declares_function else Role.VALUE
        yield self._item(role, name, container, outer, outer, None, above)

    def _item(
        self,
        role: Role,
        name: str,
        container: str,
        outer: Node,
        header: Node,
        within: Node | None,
        above: list[Node],
    ) -> Item:
        """Make an item; ``within`` is the node that the body is part of, ``None`` where there is no body."""
        body = None if within is None else body_of(within)
        first = above[0] if above else outer
        start = header.start_byte
        end = header.end_byte if within is None or body is None else end_of_header(within, body)
        text = self._source[start : min(end, start + LONGEST_HEADER)].decode("utf-8", "replace").rstrip()
        if body is None and role is Role.FUNCTION and self._closer == "end":
            text = text.removesuffix("end").rstrip("; ")
        if annotations := _ANNOTATIONS.match(text):
            text = text[annotations.end() :]
        header_row = header.start_point.row
        header_end = header_row + text.count("\n") + 1
        if annotations:
            header_row += annotations.group().count("\n")
            header_end += annotations.group().count("\n")
        return Item(
            role=role,
            name=name,
            container=container,
            node=outer,
            start=first.start_point.row,
            end=end_row(outer),
            header_start=header_row,
            header_end=header_end,
            header=text,
            body=body,
        )

    def _name(self, node: Node) -> tuple[str, str]:
        """Return a definition's own name and the name of what it is defined on, such as ``A`` of ``A::f``."""
        if (receiver := node.child_by_field_name("receiver")) is not None:
            found = _RECEIVER.search(text_of(receiver, self._source))
            owner = found.group(1) if found else ""
            name = node.child_by_field_name("name")
            return ("" if name is None else text_of(name, self._source)), owner
        named = name_node(node)
        if named is None:
            return "", ""
        text = text_of(named, self._source, 200)
        if "operator" not in text:
            while (plain := _GENERIC.sub("", text)) != text:
                text = plain
        parts = [part for part in re.split(r"::|\.|:(?=\w)|\\", text) if part]
        if not parts or not _NAME.fullmatch(parts[-1].strip()):
            return "", ""
        owner = ".".join(parts[:-1]).strip().removesuffix(".prototype")
        return parts[-1].strip(), "" if owner in _OWN_NAMESPACES else owner


def _join(container: str, owner: str) -> str:
    return f"{container}.{owner}" if container and owner else container or owner
