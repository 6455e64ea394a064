"""Runs what a page of the documentation shows: `python snippets.py HOST:PORT page.md`.

The page's ```python blocks run one after the other in one module, with the address of the page replaced by that of the
server. A ```text block right below one is what it prints, where `…` stands for anything.
"""

import contextlib
import io
import re
import sys
import traceback

SHOWN = "127.0.0.1:2900"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Of each Python block: its line, its text, and what it prints if the page says so."""
    found = list(BLOCK.finditer(page))
    for index, block in enumerate(found):
        if block[1] != "python":
            continue
        following = found[index + 1] if index + 1 < len(found) else None
        shown = None
        if following and following[1] == "text" and "\n#" not in page[block.end() : following.start()]:
            shown = following[2]
        yield page[: block.start()].count("\n") + 2, block[2], shown


def matches(shown, printed):
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def main(address, path):
    with open(path, encoding="utf-8") as file:
        page = file.read()
    module, count = {"__name__": "page"}, 0
    for line, text, shown in blocks(page):
        count += 1
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                # As many empty lines before it as the page has, so that errors name the page's own lines.
                exec(compile("\n" * (line - 1) + text.replace(SHOWN, address), path, "exec"), module)
        except BaseException:
            print(f"{path}:{line}: this does not run:\n{text}\n{traceback.format_exc()}\nIt printed:\n{printed.getvalue()}")
            sys.exit(1)
        if shown is not None and not matches(shown, printed.getvalue()):
            print(f"{path}:{line}: this prints something else:\n{text}\nThe page says:\n{shown}\nIt prints:\n{printed.getvalue()}")
            sys.exit(1)
    if not count:
        print(f"{path} has no Python")
        sys.exit(1)
    print(f"all {count} blocks of {path} run")


main(sys.argv[1], sys.argv[2])
