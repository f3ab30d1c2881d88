"""
Hostile names by kind: of paths, devices, controls, scripts, formats, shells, databases and searches.

A tag of a board cannot hold a space, so none of these names does.
"""

from collections.abc import Iterator

_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("a/b", "/", "//", "a//b", "a/./b", "/etc/passwd", "//host/share", "a/", "./a"),
        *("../escaped", "../../escaped", "../../../../../../../../tmp/escaped", "a/../../escaped"),
        *(".", "..", "...", ".hidden", "~", "~root", "~/escaped", "a\\b", "..\\escaped"),
        *(
            "..\\..\\escaped",
            "C:\\escaped",
            "C:escaped",
            "\\\\host\\share\\escaped",
            "\\\\?\\C:\\a",
        ),
        *("%2e%2e%2fescaped", "..%2fescaped", "%00", "a%00.png", "..%c0%afescaped", "a::$DATA"),
        *("file:///etc/passwd", "http://169.254.169.254/", "\uff0e\uff0e\uff0fescaped"),
        *("\u2215etc\u2215passwd", "\u2044etc", "..;/escaped", "a.tar/../b", "....//escaped"),
    ),
    "reserved": (
        *("CON", "PRN", "AUX", "NUL", "COM1", "COM9", "LPT1", "CONIN$", "con.png", "aux.tar.gz"),
        *(
            "nul.",
            "a.",
            "a:",
            "a*",
            "a?",
            'a"',
            "a<",
            "a>",
            "a|",
            ":",
            "*",
            "?",
            '"',
            "<",
            ">",
            "|",
        ),
        *("desktop.ini", "Thumbs.db", ".git", ".dvc", "CLOCK$", "__pycache__", "index.csv"),
    ),
    "control": (
        *("a\0b", "\0", "a\x01b", "a\x07b", "a\x08b", "a\x1b[2Jb", "a\x1b]0;t\x07b", "a\x7fb"),
        *("a\nb", "a\rb", "a\r\nb", "a\tb", "a\x0bb", "a\x0cb", "a\x1cb", "a\x1fb", "a\x85b", "\n"),
    ),
    "Unicode": (
        *("a\u202eb", "a\u200eb", "a\u200fb", "a\u2066b\u2069", "a\u200bb", "a\u200db", "\ufeffa"),
        *("a\u00a0b", "a\u2003b", "a\u3000b", "a\u2028b", "a\u2029b", "a\u1680b", "a\u00adb"),
        *(
            "e\u0301",
            "\u00e9",
            "a" + "\u0300" * 40,
            "\u212a",
            "\u0130",
            "\u0131",
            "\u1e9e",
            "\u00df",
        ),
        *(
            "\ufffd",
            "\ufffe",
            "\uffff",
            "\U0010ffff",
            "\ue000",
            "\U000e0001",
            "\U0001f9d1\u200d\U0001f680",
        ),
        *("\u0430", "\u05d0\u05d1", "\u0627\u0644", "\u521d\u97f3\u30df\u30af", "\ufdfd", "\u115f"),
    ),
    "long": ("x" * 128, "x" * 255, "x" * 256, "\u00e9" * 200, "\u521d" * 160, "." * 300, "/" * 300),
    "format": (
        *(
            "%s",
            "%n%n%n%n",
            "%d%x",
            "{}",
            "{0}",
            "{a}",
            "{{a}}",
            "{0.__class__}",
            "${HOME}",
            "$HOME",
        ),
        *("{{7*7}}", "<%=7*7%>", "#{7*7}", "${jndi:ldap://a}", "${{a}}", "{%a%}", "\\1", "\\g<0>"),
    ),
    "SQL": (
        *("'", "''", "a'b", '"', '""', "';--", "'--", "');DROP/**/TABLE/**/posts;--", "';DROP"),
        *("'/**/OR/**/1=1--", "1;SELECT/**/1", "read_text('/etc/passwd')", "posts", "NULL", "a;b"),
        *("$1", ":a", "@a", "/*", "*/", "--"),
    ),
    "HTML": (
        *(
            "<script>alert(1)</script>",
            '"><img/src=x/onerror=alert(1)>',
            "</script>",
            "<!--",
            "]]>",
        ),
        *("&lt;", "&#60;", "javascript:alert(1)", "'onload='a", "<svg/onload=alert(1)>", "</td>"),
        *("[a](javascript:alert(1))", "a|b|c", "`a`"),
    ),
    "shell": (
        *(";id", "|id", "&&id", "$(id)", "`id`", "-rf", "--help", "-", "--data", "!", "!!"),
        *("[a-z]", "{a,b}", "^a", "@file", "a&b", "a=b", "\\"),
    ),
    "value": (
        *(
            "=1+1",
            "+1",
            "@SUM(1)",
            "a,b",
            "null",
            "true",
            "nan",
            "NaN",
            "inf",
            "1e999",
            "0x10",
            "007",
        ),
        *(
            "-1",
            "0",
            "1",
            "None",
            "[]",
            "{}",
            '{"a":1}',
            "a:\u00a0b",
            "yes",
            "~null",
            "<<",
            "!!python",
        ),
    ),
    "search": (
        *(
            "-solo",
            "~solo",
            "rating:g",
            "order:random",
            "id:1",
            "id:<5",
            "a*b",
            "status:any",
            "user:a",
        ),
        *(
            "limit:1",
            "solo",
            "1girl",
            "md5:0",
            "(a",
            "a)",
            "((a))",
            "a_(b)",
            "_",
            "__a__",
            "a_(cosplay)",
        ),
        *("parent:1", "age:<1d", "+a", "a+b", "a#b", "#", "a&tags=b", "search:all"),
    ),
}


def names() -> Iterator[tuple[str, str]]:
    """Yields each name once, with its kind."""
    seen: set[str] = set()
    for kind, entries in _NAMES.items():
        for name in entries:
            if name not in seen:
                seen.add(name)
                yield kind, name
