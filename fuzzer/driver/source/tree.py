# SPDX-License-Identifier: Apache-2.0
"""The syntax tree of a translation unit as libclang gives it, with what the reading needs of it.

Implicit casts and parentheses are left out. Children are made when they are asked for.
"""

from __future__ import annotations

import ast
import ctypes
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from clang.cindex import Cursor, CursorKind, Index, TranslationUnit, TypeKind, conf


class Kind(enum.Enum):
    """Kinds of nodes."""

    BLOCK = enum.auto()
    IF = enum.auto()
    SWITCH = enum.auto()
    CASE = enum.auto()
    DEFAULT = enum.auto()
    LOOP = enum.auto()
    RETURN = enum.auto()
    JUMP = enum.auto()
    LABEL = enum.auto()
    DECLARATIONS = enum.auto()
    VARIABLE = enum.auto()
    CALL = enum.auto()
    NAME = enum.auto()
    MEMBER = enum.auto()
    UNARY = enum.auto()
    BINARY = enum.auto()
    CONDITIONAL = enum.auto()
    CAST = enum.auto()
    INDEX = enum.auto()
    STATEMENTS = enum.auto()
    LIST = enum.auto()
    DESIGNATED = enum.auto()
    OTHER = enum.auto()


class Sort(enum.Enum):
    """Sorts of types."""

    INTEGER = enum.auto()
    POINTER = enum.auto()
    ARRAY = enum.auto()
    RECORD = enum.auto()
    OTHER = enum.auto()


@dataclass(frozen=True, slots=True)
class CType:
    """A C type. ``size`` is in bytes, 0 if it is not known.

    ``name`` is that of a struct, union or enum, or of the typedef that one has; ``target``
    what a pointer or an array is of; ``count`` the elements of an array.
    """

    sort: Sort
    size: int = 0
    name: str = ""
    target: CType | None = None
    count: int = 0


UNKNOWN = CType(Sort.OTHER)

_KINDS = {
    CursorKind.COMPOUND_STMT: Kind.BLOCK,
    CursorKind.IF_STMT: Kind.IF,
    CursorKind.SWITCH_STMT: Kind.SWITCH,
    CursorKind.CASE_STMT: Kind.CASE,
    CursorKind.DEFAULT_STMT: Kind.DEFAULT,
    CursorKind.FOR_STMT: Kind.LOOP,
    CursorKind.WHILE_STMT: Kind.LOOP,
    CursorKind.DO_STMT: Kind.LOOP,
    CursorKind.RETURN_STMT: Kind.RETURN,
    CursorKind.BREAK_STMT: Kind.JUMP,
    CursorKind.CONTINUE_STMT: Kind.JUMP,
    CursorKind.GOTO_STMT: Kind.JUMP,
    CursorKind.LABEL_STMT: Kind.LABEL,
    CursorKind.DECL_STMT: Kind.DECLARATIONS,
    CursorKind.VAR_DECL: Kind.VARIABLE,
    CursorKind.CALL_EXPR: Kind.CALL,
    CursorKind.DECL_REF_EXPR: Kind.NAME,
    CursorKind.MEMBER_REF_EXPR: Kind.MEMBER,
    CursorKind.UNARY_OPERATOR: Kind.UNARY,
    CursorKind.BINARY_OPERATOR: Kind.BINARY,
    CursorKind.COMPOUND_ASSIGNMENT_OPERATOR: Kind.BINARY,
    CursorKind.CONDITIONAL_OPERATOR: Kind.CONDITIONAL,
    CursorKind.CSTYLE_CAST_EXPR: Kind.CAST,
    CursorKind.ARRAY_SUBSCRIPT_EXPR: Kind.INDEX,
    CursorKind.StmtExpr: Kind.STATEMENTS,
    CursorKind.INIT_LIST_EXPR: Kind.LIST,
}
# CXBinaryOperatorKind and CXUnaryOperatorKind of clang-c/Index.h (LLVM 17).
_BINARY = dict(
    enumerate(
        (
            *("*", "/", "%", "+", "-", "<<", ">>", "<=>", "<", ">", "<=", ">=", "==", "!="),
            *("&", "^", "|", "&&", "||", "=", "*=", "/=", "%=", "+=", "-=", "<<=", ">>="),
            *("&=", "^=", "|=", ","),
        ),
        3,
    )
)
_UNARY = dict(enumerate(("++", "--", "++", "--", "&", "*", "+", "-", "~", "!"), 1))
_EVALUATES_TO_INTEGER, _EVALUATES_TO_TEXT = 1, 4
_SIGNED = frozenset(
    (TypeKind.SCHAR, TypeKind.CHAR_S, TypeKind.SHORT, TypeKind.INT, TypeKind.LONG,
     TypeKind.LONGLONG)
)  # fmt: skip
_UNSIGNED = frozenset(
    (TypeKind.BOOL, TypeKind.UCHAR, TypeKind.CHAR_U, TypeKind.USHORT, TypeKind.UINT,
     TypeKind.ULONG, TypeKind.ULONGLONG, TypeKind.ENUM)
)  # fmt: skip
_ARRAYS = frozenset(
    (TypeKind.CONSTANTARRAY, TypeKind.INCOMPLETEARRAY, TypeKind.VARIABLEARRAY)
)  # fmt: skip
_DEEPEST_TYPE = 8


def _declare() -> Any:
    """Return libclang, with the functions declared that its Python module has not."""
    library = conf.lib
    for name, result in (
        ("clang_getCursorBinaryOperatorKind", ctypes.c_int),
        ("clang_getCursorUnaryOperatorKind", ctypes.c_int),
        ("clang_Cursor_Evaluate", ctypes.c_void_p),
        ("clang_Cursor_getVarDeclInitializer", Cursor),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = [Cursor], result
    for name, result in (
        ("clang_EvalResult_getKind", ctypes.c_int),
        ("clang_EvalResult_getAsLongLong", ctypes.c_longlong),
        ("clang_EvalResult_getAsStr", ctypes.c_char_p),
        ("clang_EvalResult_dispose", None),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_void_p], result
    return library


class SyntaxNode:
    """A statement or an expression."""

    __slots__ = ("__dict__", "_cursor", "kind")

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self.kind = _KINDS.get(cursor.kind, Kind.OTHER)
        if self.kind is Kind.OTHER and cursor.kind is CursorKind.UNEXPOSED_EXPR:
            first = next(cursor.get_children(), None)
            if first is not None and first.kind is CursorKind.MEMBER_REF:
                self.kind = Kind.DESIGNATED

    @cached_property
    def parts(self) -> tuple[SyntaxNode, ...]:
        """The children; of a variable what it is set to, of a call the function first."""
        if self.kind is Kind.VARIABLE:
            value = _library().clang_Cursor_getVarDeclInitializer(self._cursor)
            value._tu = self._cursor._tu
            # The null cursor is of an invalid kind.
            return () if value.kind.is_invalid() else (node(value),)
        children = [each for each in self._cursor.get_children() if not _is_type(each)]
        if self.kind is Kind.DESIGNATED:
            children = [each for each in children if each.kind is not CursorKind.MEMBER_REF]
        return tuple(map(node, children))

    @cached_property
    def name(self) -> str:
        """The name of what is referred to, declared or initialised."""
        if self.kind is Kind.DESIGNATED:
            first = [each for each in self._cursor.get_children()
                     if each.kind is CursorKind.MEMBER_REF]  # fmt: skip
            return ".".join(each.spelling for each in first)
        return str(self._cursor.spelling)

    @cached_property
    def operator(self) -> str:
        """The operator, as C writes it."""
        if self.kind is Kind.BINARY:
            number = _library().clang_getCursorBinaryOperatorKind(self._cursor)
            return _BINARY.get(number, "")
        return _UNARY.get(_library().clang_getCursorUnaryOperatorKind(self._cursor), "")

    @cached_property
    def type(self) -> CType:
        """The type of an expression or a variable."""
        return c_type(self._cursor.type)

    @cached_property
    def value(self) -> int | bytes | None:
        """The integer or string that it always is; None if it is none."""
        if self.kind is Kind.LIST:
            return None
        if self._cursor.kind is CursorKind.STRING_LITERAL:
            return _literal(self._cursor.spelling)
        library = _library()
        result = library.clang_Cursor_Evaluate(self._cursor)
        if not result:
            return None
        try:
            kind = library.clang_EvalResult_getKind(result)
            if kind == _EVALUATES_TO_INTEGER:
                return int(library.clang_EvalResult_getAsLongLong(result))
            if kind == _EVALUATES_TO_TEXT:
                return bytes(library.clang_EvalResult_getAsStr(result))
            return None
        finally:
            library.clang_EvalResult_dispose(result)

    @cached_property
    def declared(self) -> Declared | None:
        """The declaration that a name refers to."""
        found = self._cursor.referenced
        return None if found is None else declared(found)

    @cached_property
    def members(self) -> tuple[str, ...]:
        """The members of the struct that it is, in order."""
        plain = self._cursor.type.get_canonical()
        if plain.kind is not TypeKind.RECORD:
            return ()
        return tuple(str(each.spelling) for each in plain.get_fields())

    @cached_property
    def key(self) -> str:
        """The key that tells a variable from others of its name."""
        return declared(self._cursor).key

    @property
    def is_static(self) -> bool:
        """True for a static variable or function."""
        return bool(self._cursor.storage_class.name == "STATIC")

    @property
    def place(self) -> tuple[str, int]:
        """The file and the line; of what a macro makes, where that is used."""
        at = self._cursor.location
        return str(at.file) if at.file else "", at.line

    @cached_property
    def text(self) -> str:
        """The source text."""
        extent = self._cursor.extent
        start, end = extent.start, extent.end
        if start.file is None or end.file is None or start.file.name != end.file.name:
            return ""
        return _text(start.file.name)[start.offset : end.offset].decode(errors="replace")

    def walk(self) -> Iterator[SyntaxNode]:
        """Yield this node and all below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True, slots=True)
class Declared:
    """The declaration that a name refers to; ``key`` is the same for all of its unit."""

    name: str
    key: str
    is_function: bool
    is_global: bool
    is_constant: bool


def declared(cursor: Any) -> Declared:
    """Return what a declaration declares."""
    kind = cursor.kind
    parent = cursor.semantic_parent
    is_global = parent is None or parent.kind is CursorKind.TRANSLATION_UNIT
    where = cursor.location
    name = str(cursor.spelling)
    return Declared(
        name,
        name if is_global else f"{name}@{where.line}:{where.column}",
        kind is CursorKind.FUNCTION_DECL,
        is_global,
        kind is CursorKind.ENUM_CONSTANT_DECL,
    )


def node(cursor: Any) -> SyntaxNode:
    """Return the node of a cursor, without what only wraps an expression."""
    while cursor.kind in (CursorKind.UNEXPOSED_EXPR, CursorKind.PAREN_EXPR):
        children = [each for each in cursor.get_children() if not _is_type(each)]
        if len(children) != 1 or children[0].kind is CursorKind.MEMBER_REF:
            break
        cursor = children[0]
    if cursor.kind is CursorKind.MEMBER_REF_EXPR:
        # The member that an anonymous struct is has no name.
        while "(anonymous" in cursor.spelling or not cursor.spelling:
            inner = next(cursor.get_children(), None)
            if inner is None:
                break
            cursor = inner
    return SyntaxNode(cursor)


def _is_type(cursor: Any) -> bool:
    return cursor.kind in (
        CursorKind.TYPE_REF,
        CursorKind.NAMESPACE_REF,
        CursorKind.LABEL_REF,
        CursorKind.UNEXPOSED_ATTR,
    )


def c_type(given: Any, depth: int = 0) -> CType:
    """Return a type of libclang's."""
    plain = given.get_canonical()
    kind, size = plain.kind, max(plain.get_size(), 0)
    if kind in _SIGNED or kind in _UNSIGNED:
        return CType(Sort.INTEGER, size, plain.get_declaration().spelling)
    if kind is TypeKind.POINTER:
        below = plain.get_pointee()
        target = c_type(_aliased(given, below), depth + 1) if depth < _DEEPEST_TYPE else None
        return CType(Sort.POINTER, 8, "", target)
    if kind in _ARRAYS:
        target = c_type(plain.element_type, depth + 1) if depth < _DEEPEST_TYPE else None
        count = plain.element_count if kind is TypeKind.CONSTANTARRAY else 0
        return CType(Sort.ARRAY, size, "", target, count)
    if kind is TypeKind.RECORD:
        name = plain.get_declaration().spelling
        if not name or "(" in name:
            alias = given.get_declaration().spelling
            name = "" if "(" in alias else alias
        return CType(Sort.RECORD, size, name)
    return UNKNOWN


def _aliased(pointer: Any, below: Any) -> Any:
    """Return what a pointer is of as it was written: a typedef may be the only name it has."""
    written = pointer.get_pointee()
    return below if written.kind is TypeKind.INVALID else written


@dataclass(frozen=True, slots=True)
class SourceParameter:
    """A parameter of a function."""

    name: str
    key: str
    type: CType


class SourceFunction:
    """A function with a body."""

    def __init__(self, cursor: Any, unit: int) -> None:
        self._cursor = cursor
        self.unit = unit
        self.name = str(cursor.spelling)
        self.is_static = cursor.storage_class.name == "STATIC"
        self.parameters = tuple(
            SourceParameter(str(each.spelling), declared(each).key, c_type(each.type))
            for each in cursor.get_arguments()
        )

    @cached_property
    def body(self) -> SyntaxNode:
        """The block that it is."""
        *_, last = self._cursor.get_children()
        return node(last)

    @property
    def place(self) -> tuple[str, int]:
        """The file and the line."""
        at = self._cursor.location
        return str(at.file), at.line


@dataclass(frozen=True, slots=True)
class SourceUnit:
    """A translation unit: the functions and variables of the driver's own files, and errors."""

    functions: tuple[SourceFunction, ...]
    variables: tuple[SyntaxNode, ...]
    errors: tuple[tuple[str, int, str], ...]


def parse(
    path: str, text: str, arguments: Sequence[str], own: Sequence[Path], unit: int
) -> SourceUnit:
    """Return what libclang reads of ``text``, as the file ``path``; ``own`` are the driver's.

    Raises:
        ValueError: it reads nothing.
    """
    # What was read of a file before may be old.
    _texts.clear()
    index = Index.create()
    try:
        made = index.parse(path, args=list(arguments), unsaved_files=[(path, text)])
    except Exception as error:
        raise ValueError(f"libclang cannot parse it: {error}") from error
    functions: list[SourceFunction] = []
    variables: list[SyntaxNode] = []
    known: dict[str, bool] = {}
    for cursor in made.cursor.get_children():
        if cursor.kind not in (CursorKind.FUNCTION_DECL, CursorKind.VAR_DECL):
            continue
        file = cursor.location.file
        if file is None:
            continue
        if file.name not in known:
            resolved = Path(file.name).resolve()
            known[file.name] = any(resolved.is_relative_to(each) for each in own)
        if not known[file.name]:
            continue
        if cursor.kind is CursorKind.VAR_DECL:
            variables.append(SyntaxNode(cursor))
        elif cursor.is_definition():
            functions.append(SourceFunction(cursor, unit))
    return SourceUnit(tuple(functions), tuple(variables), tuple(_errors(made)))


def _errors(made: TranslationUnit) -> Iterator[tuple[str, int, str]]:
    for each in made.diagnostics:
        # The command is gcc's: what clang has not of it is no mistake of the driver's.
        if each.severity >= 3 and "unknown argument" not in each.spelling:
            where = each.location
            yield str(where.file) if where.file else "", where.line, str(each.spelling)


def _literal(text: str) -> bytes | None:
    """Return the bytes of a string literal as C writes it."""
    try:
        found = ast.literal_eval(f"b{text}")
    except (SyntaxError, ValueError):
        return None
    return found if isinstance(found, bytes) else None


_texts: dict[str, bytes] = {}
_declared: list[Any] = []


def _library() -> Any:
    if not _declared:
        _declared.append(_declare())
    return _declared[0]


def _text(path: str) -> bytes:
    if path not in _texts:
        try:
            _texts[path] = Path(path).read_bytes()
        except OSError:
            _texts[path] = b""
    return _texts[path]
