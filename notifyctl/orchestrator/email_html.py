"""An email's HTML as mail clients need it: one self-contained page, with its CSS in style attributes.

Done once, when a template file is read. The result is still Jinja2, and needs no other file to be rendered.
"""

import re
from collections.abc import Callable

import css_inline

Read = Callable[[str], str]
"""Name of a shared file -> its text. Raises OSError."""

_EXTENDS = re.compile(r'\s*\{%\s*extends\s+"([^"]+)"\s*%\}')
_BLOCK = re.compile(r"\{%\s*block\s+(\w+)\s*%\}(.*?)\{%\s*endblock(?:\s+\w+)?\s*%\}", re.DOTALL)
_INCLUDE = re.compile(r'\{%\s*include\s+"([^"]+)"\s*%\}')
_LEFT_OVER = re.compile(r"\{%-?\s*(extends|block|endblock|include|import|from)\b[^%]*%\}")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)

_STATEMENT_OR_EXPRESSION = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
_TOKEN = re.compile(r"<!--(jinja[se]\d+z)-->|(jinja[se]\d+z)")
_MARKUP_OR_STATEMENT = re.compile(r"<!--.*?-->|<(title|style)\b.*?</\1>|<[^>]*>|(jinjas\d+z)", re.DOTALL)


class HtmlError(ValueError):
    """The parts of a page do not fit together."""


def build(body: str, read: Read) -> str:
    """The page of `body`: flattened, then inlined. Raises HtmlError naming what does not fit, and OSError."""
    return inline(flatten(body, read))


def flatten(body: str, read: Read) -> str:
    """Puts the blocks of `body` into the layout it extends, and the included files where they are named."""
    page = _COMMENT.sub("", _with_layout(body, read))
    page = _COMMENT.sub("", _INCLUDE.sub(lambda match: read(match[1]), page))
    if left := _LEFT_OVER.search(page):
        raise HtmlError(f"{left[0]} does not fit here: blocks and included files cannot be nested")
    return page


def inline(page: str) -> str:
    """Copies the rules of <style> into style attributes. What has no attribute (@media) stays.

    An HTML parser moves text between two table rows out of the table, so there Jinja's statements travel as
    comments; inside tags and titles, where a comment cannot stand, they travel as words.
    """
    pieces: list[str] = []

    def hide(match: re.Match[str]) -> str:
        pieces.append(match[0])
        return f"jinja{'s' if match[0].startswith('{%') else 'e'}{len(pieces) - 1}z"

    def as_comment(match: re.Match[str]) -> str:
        return f"<!--{match[2]}-->" if match[2] else match[0]

    def show(match: re.Match[str]) -> str:
        return pieces[int((match[1] or match[2])[6:-1])]

    hidden = _MARKUP_OR_STATEMENT.sub(as_comment, _STATEMENT_OR_EXPRESSION.sub(hide, page))
    inlined = _inliner().inline(hidden)
    if "<tbody" not in page:
        # The parser begins one at the first row, which may be inside of a condition or a loop.
        inlined = inlined.replace("<tbody>", "").replace("</tbody>", "")
    return _TOKEN.sub(show, inlined)


def _with_layout(body: str, read: Read) -> str:
    extends = _EXTENDS.match(body)
    if extends is None:
        return body
    layout = read(extends[1])
    rest = body[extends.end() :]
    if stray := _BLOCK.sub("", _COMMENT.sub("", rest)).strip():
        raise HtmlError(f"{stray.splitlines()[0]!r} stands outside of every block and would be lost")
    blocks = {match[1]: match[2] for match in _BLOCK.finditer(rest)}
    places = {match[1] for match in _BLOCK.finditer(layout)}
    if strange := sorted(blocks.keys() - places):
        known = ", ".join(sorted(places))
        raise HtmlError(f"block {', '.join(strange)} is not in {extends[1]}, which has {known}")
    return _BLOCK.sub(lambda match: blocks.get(match[1], match[2]), layout)


def _inliner() -> css_inline.CSSInliner:
    return css_inline.CSSInliner(keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False)
