"""Grammars by language: which node types define what, as data, and the parsers.

A language whose wheel is missing or does not fit the runtime has no grammar; its files are then read by lines.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from tree_sitter import Language, Parser, Point, Tree

_LOG = logging.getLogger(__name__)

_READ_BYTES = 4096
"""The parser asks for the text in pieces of this size, and other threads may run between two of them: given the whole
text it would keep the interpreter to itself until it is done (0.36 s for 63,000 lines)."""

_CPP_HEADER = re.compile(rb"^[ \t]*(?:class|namespace|template|using|public:|private:)\b", re.MULTILINE)


_EXPORT_MACRO = re.compile(
    rb"\b((?:class|struct|union)[ \t]+)([A-Z][A-Z0-9_]+(?:\([^()\n]*\))?)(?=[ \t]+\w[\w:<>, \t]*(?:\n[ \t]*)?[{:])"
)
"""In ``class LIB_API Parser {`` the grammar takes the macro for the class's name and the class for a function."""


class Role(Enum):
    """What a node of a syntax tree is to the index."""

    FUNCTION = auto()
    CLASS = auto()
    """Also structs, interfaces, traits and enums: a named thing with members."""
    EXTENSION = auto()
    """Members of a type that is defined elsewhere (Rust's ``impl``)."""
    NAMESPACE = auto()
    """Its lines go above those of its members, its name is no part of theirs."""
    TRANSPARENT = auto()
    """Looked into as if it were not there."""
    WRAPPER = auto()
    """Belongs to the header of the definition inside it (``export``, ``template <...>``)."""
    DECORATED = auto()
    """Like WRAPPER, but what it adds is not part of the header (Python's decorators)."""
    VALUE = auto()
    """A constant, a variable, or a function by what is assigned."""
    TYPE = auto()
    """A type's name for another type, or a macro."""
    FIELD = auto()
    """Part of a class's interface, where it stands directly in one."""
    ATTRIBUTE = auto()
    """Stands before the definition that it belongs to, as does a comment."""
    COMMENT = auto()


@dataclass(frozen=True)
class Spec:
    """How definitions look in one grammar."""

    wheel: str
    roles: Mapping[str, Role]
    """By node type."""
    function: str = "language"
    """The wheel's function that returns the grammar."""
    comment: str = "//"
    """What begins a comment up to the line's end."""
    stub: str = ";"
    """Stands for the body of a function of which only the header is shown."""
    closer: str = "}"
    """Ends a class of which only a part is shown."""


def _roles(**types: str) -> Mapping[str, Role]:
    table = {"ERROR": Role.TRANSPARENT, "comment": Role.COMMENT}
    table.update((type_, Role[role.rstrip("_").upper()]) for role, names in types.items() for type_ in names.split())
    return MappingProxyType(table)


_SCRIPT = {
    "function": "function_declaration generator_function_declaration method_definition function_signature "
    "abstract_method_signature method_signature",
    "class_": "class_declaration abstract_class_declaration interface_declaration enum_declaration",
    "namespace": "module internal_module",
    "transparent": "ambient_declaration statement_block",
    "wrapper": "export_statement",
    "value": "lexical_declaration variable_declaration expression_statement public_field_definition field_definition",
    "type": "type_alias_declaration",
    "field": "property_signature property_identifier enum_assignment index_signature call_signature "
    "construct_signature",
    "attribute": "decorator",
}

_C_FAMILY = {
    "function": "function_definition",
    "class_": "struct_specifier union_specifier enum_specifier class_specifier",
    "namespace": "namespace_definition",
    "transparent": "linkage_specification preproc_ifdef preproc_if preproc_else preproc_elif declaration_list "
    "field_declaration_list",
    "wrapper": "template_declaration",
    "value": "declaration",
    "type": "type_definition alias_declaration concept_definition preproc_function_def preproc_def",
    "field": "field_declaration enumerator",
}

SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        "python": Spec(
            "tree_sitter_python",
            _roles(
                function="function_definition",
                class_="class_definition",
                transparent="if_statement else_clause elif_clause try_statement except_clause finally_clause "
                "with_statement block",
                decorated="decorated_definition",
                value="expression_statement",
                type="type_alias_statement",
            ),
            comment="#",
            stub=": ...",
            closer="",
        ),
        "javascript": Spec("tree_sitter_javascript", _roles(**_SCRIPT)),
        "javascriptreact": Spec("tree_sitter_javascript", _roles(**_SCRIPT)),
        "typescript": Spec("tree_sitter_typescript", _roles(**_SCRIPT), function="language_typescript"),
        "typescriptreact": Spec("tree_sitter_typescript", _roles(**_SCRIPT), function="language_tsx"),
        "go": Spec(
            "tree_sitter_go",
            _roles(
                function="function_declaration method_declaration method_elem",
                class_="type_spec",
                transparent="var_spec_list field_declaration_list",
                wrapper="type_declaration",
                value="const_declaration var_declaration",
                type="type_alias",
                field="field_declaration type_elem",
            ),
            stub="",
        ),
        "rust": Spec(
            "tree_sitter_rust",
            _roles(
                function="function_item function_signature_item macro_definition",
                class_="struct_item enum_item union_item trait_item",
                extension="impl_item",
                namespace="mod_item",
                transparent="foreign_mod_item declaration_list",
                value="const_item static_item",
                type="type_item",
                field="field_declaration enum_variant associated_type",
                attribute="attribute_item",
                comment="line_comment block_comment",
            ),
        ),
        "java": Spec(
            "tree_sitter_java",
            _roles(
                function="method_declaration constructor_declaration compact_constructor_declaration "
                "annotation_type_element_declaration",
                class_="class_declaration interface_declaration enum_declaration record_declaration "
                "annotation_type_declaration",
                transparent="enum_body_declarations",
                field="field_declaration constant_declaration enum_constant",
                comment="line_comment block_comment",
            ),
        ),
        "c": Spec("tree_sitter_c", _roles(**_C_FAMILY)),
        "cpp": Spec("tree_sitter_cpp", _roles(**_C_FAMILY)),
        "csharp": Spec(
            "tree_sitter_c_sharp",
            _roles(
                function="method_declaration constructor_declaration destructor_declaration operator_declaration "
                "conversion_operator_declaration indexer_declaration local_function_statement",
                class_="class_declaration interface_declaration struct_declaration record_declaration enum_declaration",
                namespace="namespace_declaration",
                transparent="global_statement preproc_if preproc_else declaration_list",
                type="delegate_declaration",
                field="property_declaration field_declaration event_field_declaration event_declaration "
                "enum_member_declaration",
            ),
        ),
        "ruby": Spec(
            "tree_sitter_ruby",
            _roles(
                function="method singleton_method",
                class_="class module",
                transparent="singleton_class body_statement",
                value="assignment",
                field="call",
            ),
            comment="#",
            stub="",
            closer="end",
        ),
        "php": Spec(
            "tree_sitter_php",
            _roles(
                function="function_definition method_declaration",
                class_="class_declaration interface_declaration trait_declaration enum_declaration",
                transparent="namespace_definition compound_statement if_statement",
                value="const_declaration",
                field="property_declaration enum_case use_declaration",
            ),
            function="language_php",
        ),
        "lua": Spec(
            "tree_sitter_lua",
            _roles(
                function="function_declaration",
                transparent="do_statement block",
                value="variable_declaration assignment_statement",
            ),
            comment="--",
            stub="",
            closer="end",
        ),
        "shellscript": Spec(
            "tree_sitter_bash",
            _roles(
                function="function_definition",
                transparent="if_statement",
                value="variable_assignment declaration_command",
            ),
            comment="#",
            stub="",
        ),
    }
)


class Grammars:
    """Parsers, each made when its language first occurs. For one thread: a parser is not to be shared."""

    def __init__(self) -> None:
        self._parsers: dict[str, Parser | None] = {}
        self._piece = bytearray()
        """What the parser reads, always one object: it never lets go of what it was given (py-tree-sitter 0.26)."""

    def grammar(self, language: str, source: bytes) -> str:
        """Return the language whose grammar suits a text; a header file does not say whether it is C or C++."""
        return "cpp" if language == "c" and _CPP_HEADER.search(source) else language

    def parse(self, language: str, source: bytes) -> Tree | None:
        """Return the syntax tree of UTF-8 text, ``None`` where there is no grammar."""
        if language not in self._parsers:
            self._parsers[language] = _parser(language)
        parser = self._parsers[language]
        if parser is None:
            return None
        if language == "cpp":
            source = _EXPORT_MACRO.sub(lambda match: match.group(1) + b" " * len(match.group(2)), source)

        def read(offset: int, _: Point) -> bytearray:
            self._piece[:] = source[offset : offset + _READ_BYTES]
            return self._piece

        return parser.parse(read)


def _parser(language: str) -> Parser | None:
    spec = SPECS.get(language)
    if spec is None:
        return None
    try:
        return Parser(Language(getattr(importlib.import_module(spec.wheel), spec.function)()))
    except (ImportError, AttributeError, ValueError) as error:
        _LOG.warning("No grammar for %s, its files are read by lines: %s", language, error)
        return None
