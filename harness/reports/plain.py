"""Names and sentences of others made harmless, each for where it is printed."""

import re
import unicodedata

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_FORMULA = ("=", "+", "-", "@")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after \\ a bare bracket would be read as its argument
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≠": r"$\neq$",
    "=": "=",
    "–": "--",
    "α": r"$\alpha$",
    "λ": r"$\lambda$",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
} | {sign: rf"\textsuperscript{{{digit}}}" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def visible(text: str) -> str:
    """Without characters that act: ANSI codes, line ends and marks of direction are shown by their code."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def code(name: str) -> str:
    """A name as code in Markdown, by as many backticks as it needs; a bar would end a table's cell."""
    name = visible(name).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    inside = f" {name} " if name.startswith("`") or name.endswith("`") else name
    return f"{fence}{inside}{fence}"


def markdown_text(text: str) -> str:
    """A sentence in Markdown that is no HTML and no emphasis."""
    acting = r"[\\*|`\[\]]|(?<!\w)_|_(?!\w)"  # inside a word an underscore is one
    return re.sub(acting, lambda found: f"\\{found[0]}", visible(text)).replace("<", "&lt;")


def latex_text(text: str) -> str:
    """A text as LaTeX that prints it."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


def field(text: str) -> str:
    """A text in a CSV file that a spreadsheet shows and does not compute."""
    text = visible(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
