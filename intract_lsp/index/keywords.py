"""Words that look like identifiers but name nothing that a workspace could define."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SCRIPT = _words(
    "abstract any as async await boolean break case catch class const constructor continue debugger declare default "
    "delete do else enum export extends false finally for from function get if implements import in instanceof "
    "interface is keyof let namespace new null number object of private protected public readonly return set static "
    "string super switch symbol this throw true try type typeof undefined unknown var void while with yield"
)
_C = _words(
    "auto bool break case char const continue default define defined do double else endif enum extern false float for "
    "goto if ifdef ifndef include inline int long NULL pragma register restrict return short signed sizeof static "
    "struct switch true typedef undef union unsigned void volatile while"
)

KEYWORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "python": _words(
            "False None True and as assert async await break case class cls continue def del elif else except finally "
            "for from global if import in is lambda match nonlocal not or pass raise return self try while with yield"
        ),
        "javascript": _SCRIPT,
        "javascriptreact": _SCRIPT,
        "typescript": _SCRIPT,
        "typescriptreact": _SCRIPT,
        "go": _words(
            "any append bool break byte cap case chan const continue copy default defer delete else error fallthrough "
            "false float32 float64 for func go goto if import int int32 int64 interface iota len make map new nil "
            "package panic range return rune select string struct switch true type uint uint8 uint32 uint64 var"
        ),
        "rust": _words(
            "Err None Ok Option Result Self Some String Vec as async await bool break char const continue crate dyn "
            "else enum extern f32 f64 false fn for i32 i64 if impl in let loop match mod move mut pub ref return self "
            "static str struct super trait true type u8 u32 u64 unsafe use usize where while"
        ),
        "java": _words(
            "abstract assert boolean break byte case catch char class const continue default do double else enum "
            "extends false final finally float for if implements import instanceof int interface long native new null "
            "package private protected public record return short static super switch synchronized this throw throws "
            "transient true try var void volatile while String Override"
        ),
        "c": _C,
        "cpp": _C
        | _words(
            "catch class consteval constexpr constinit decltype delete dynamic_cast explicit final friend mutable "
            "namespace new noexcept nullptr operator override private protected public reinterpret_cast requires "
            "static_cast std template this throw try typename using virtual"
        ),
        "csharp": _words(
            "abstract as async await base bool break byte case catch char class const continue decimal default "
            "delegate do double else enum event explicit extern false finally fixed float for foreach get if implicit "
            "in init int interface internal is lock long namespace new null object operator out override params "
            "partial private protected public readonly record ref return sealed set short sizeof static string struct "
            "switch this throw true try typeof uint ulong using value var virtual void volatile when where while yield"
        ),
        "ruby": _words(
            "BEGIN END alias and begin break case class def defined do else elsif end ensure false for if in module "
            "next nil not or private protected public redo require require_relative rescue retry return self super "
            "then true undef unless until when while yield"
        ),
        "php": _words(
            "abstract and array as bool break callable case catch class clone const continue declare default do echo "
            "else elseif empty enum extends false final finally float fn for foreach function global if implements "
            "include instanceof int interface isset list match mixed namespace new null or parent php print private "
            "protected public readonly require require_once return self static string switch this throw trait true "
            "try unset use var void while yield"
        ),
        "lua": _words(
            "and break do else elseif end false for function goto if in local nil not or repeat require return self "
            "then true until while"
        ),
        "shellscript": _words(
            "break case cd continue declare do done echo elif else esac eval exec exit export fi for function if in "
            "local printf read readonly return select set shift source test then true unset until while"
        ),
    }
)
