"""Parses the tokens of a CEL expression into a syntax tree.

Source of the grammar: google/cel-spec doc/langdef.md, with optional selection and optional elements. Macros are parsed as
calls; `facts.py` handles them.
"""

from gpuvitals.lint.cel.tokens import SyntaxProblem, Token, TokenKind, tokens
from gpuvitals.lint.cel.tree import (
    Binary,
    Call,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Select,
    Ternary,
    Unary,
)

_LEVELS = {
    "||": 1, "&&": 2,
    "<": 3, "<=": 3, ">": 3, ">=": 3, "==": 3, "!=": 3, "in": 3,
    "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5,
}  # fmt: skip
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_NO_NAMES = frozenset(("in", *_CONSTANTS))
_RESERVED = frozenset(
    [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)


def parsed(text: str) -> Node:
    """The syntax tree of the text. Raises SyntaxProblem, and RecursionError if it is nested too deeply."""
    parser = _Parser(list(tokens(text)))
    tree = parser.expression()
    if parser.next.kind is not TokenKind.END:
        raise parser.unexpected("the end")
    return tree


class _Parser:
    def __init__(self, words: list[Token]) -> None:
        self._tokens = words
        self._place = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._place]

    def unexpected(self, wanted: str) -> SyntaxProblem:
        found = self.next
        shown = found.text if found.kind is TokenKind.END else f"'{found.text}'"
        return SyntaxProblem(f"found {shown}, expected {wanted}", found.at)

    def expression(self) -> Node:
        condition = self._binary(1)
        if not self._is("?"):
            return condition
        at = self._advance().at
        yes = self._binary(1)
        self._expect(":")
        return Ternary(at, condition, yes, self.expression())

    def _binary(self, level: int) -> Node:
        left = self._unary()
        while True:
            word = self.next
            found = _LEVELS.get(word.text, 0) if word.kind in (TokenKind.OPERATOR, TokenKind.WORD) else 0
            if found < level:
                return left
            self._advance()
            right = self._binary(found + 1)
            if found > 2:
                left = Binary(word.at, word.text, left, right)
            elif isinstance(left, Logic) and left.operator == word.text:
                left = Logic(left.at, word.text, (*left.operands, right))
            else:
                left = Logic(word.at, word.text, (left, right))

    def _unary(self) -> Node:
        if self._is("!") or self._is("-"):
            word = self._advance()
            operand = self._unary()
            if word.text == "-" and isinstance(operand, Literal) and _is_number(operand.value):
                return Literal(word.at, -operand.value)  # type: ignore[operator]  # checked above
            return Unary(word.at, word.text, operand)
        return self._member(self._primary())

    def _member(self, node: Node) -> Node:
        while True:
            if self._is("."):
                self._advance()
                node = self._after_dot(node)
            elif self._is("["):
                at = self._advance().at
                optional = self._accept("?")
                node = Index(at, node, self.expression(), optional)
                self._expect("]")
            elif self._is("{") and isinstance(node, Name | Select):
                node = self._map(fields=True)
            else:
                return node

    def _after_dot(self, node: Node) -> Node:
        optional = self._accept("?")
        is_word = self.next.kind is TokenKind.WORD and self.next.text not in _NO_NAMES
        if not is_word and self.next.kind is not TokenKind.FIELD:
            raise self.unexpected("a field's name")
        field = self._advance()
        if self._is("(") and not optional:
            return Call(field.at, node, field.text, self._arguments())
        return Select(field.at, node, field.text, optional)

    def _primary(self) -> Node:
        word = self.next
        match word.kind:
            case TokenKind.VALUE:
                self._advance()
                return Literal(word.at, word.value)
            case TokenKind.WORD:
                return self._word()
            case TokenKind.OPERATOR if word.text == "(":
                self._advance()
                inner = self.expression()
                self._expect(")")
                return inner
            case TokenKind.OPERATOR if word.text == "[":
                self._advance()
                return ListOf(word.at, self._items("]"))
            case TokenKind.OPERATOR if word.text == "{":
                return self._map(fields=False)
            case TokenKind.OPERATOR if word.text == ".":
                self._advance()
                return self._word()
            case _:
                raise self.unexpected("a value")

    def _word(self) -> Node:
        if self.next.kind is not TokenKind.WORD or self.next.text in _RESERVED or self.next.text == "in":
            raise self.unexpected("a name")
        word = self._advance()
        if word.text in _CONSTANTS:
            return Literal(word.at, _CONSTANTS[word.text])
        if self._is("("):
            return Call(word.at, None, word.text, self._arguments())
        return Name(word.at, word.text)

    def _arguments(self) -> tuple[Node, ...]:
        self._expect("(")
        return self._items(")")

    def _items(self, closing: str) -> tuple[Node, ...]:
        """Expressions up to the closing token. A list may have a trailing comma."""
        items: list[Node] = []
        while not self._accept(closing):
            if items:
                self._expect(",")
                if closing == "]" and self._accept(closing):
                    break
            if closing == "]":
                self._accept("?")
            items.append(self.expression())
        return tuple(items)

    def _map(self, *, fields: bool) -> Node:
        at = self._expect("{").at
        parts: list[Node] = []
        first = True
        while not self._accept("}"):
            if not first:
                self._expect(",")
                if self._accept("}"):
                    break
            first = False
            self._accept("?")
            if fields:
                self._advance()
            else:
                parts.append(self.expression())
            self._expect(":")
            parts.append(self.expression())
        return MapOf(at, tuple(parts))

    def _is(self, text: str) -> bool:
        return self.next.kind is TokenKind.OPERATOR and self.next.text == text

    def _accept(self, text: str) -> bool:
        found = self._is(text)
        if found:
            self._advance()
        return found

    def _expect(self, text: str) -> Token:
        if not self._is(text):
            raise self.unexpected(f"'{text}'")
        return self._advance()

    def _advance(self) -> Token:
        word = self.next
        if word.kind is TokenKind.END:
            raise self.unexpected("more")
        self._place += 1
        return word


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
