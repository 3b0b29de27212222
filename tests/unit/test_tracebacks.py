# Copyright (c) Zope Foundation and Contributors.
# Zope Public License, version 2.1: see LICENSE.txt.
import sys

from zc.async_ import tracebacks

LAST = "builtins.ZeroDivisionError: division by zero\n"


class Rude(Exception):
    def __str__(self):
        raise SystemExit("no text")

    def __repr__(self):
        raise KeyboardInterrupt


class Text(str):
    """A string of a class that not everybody can load."""


class Texted(Exception):
    def __str__(self):
        return Text("from a subclass")


def raised(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def described(function, *args, keep_locals=False):
    error = raised(function, *args)
    return tracebacks.describe(error, error.__traceback__, keep_locals)


def printed(data, form=tracebacks.full, *args):
    lines = []
    form(data, lines.append, *args)
    return "".join(lines)


def divide(secret=42):
    return secret / 0


def recurse(depth):
    return recurse(depth - 1) if depth else divide()


def fail_with(error, cause=None):
    raise error from cause


def is_plain(value):
    if type(value) in (list, tuple):
        return all(is_plain(item) for item in value)
    if type(value) is dict:
        return all(is_plain(item) for pair in value.items() for item in pair)
    return type(value) in (str, int, bool, type(None))


def test_an_error_becomes_plain_data():
    data = described(divide, keep_locals=True)
    assert is_plain(data)
    assert data["type"] == "builtins.ZeroDivisionError"
    assert data["message"] == "division by zero"
    assert "builtins.ArithmeticError" in data["parents"]


def test_frames_have_function_file_line_and_source():
    function, file, line, source = described(divide)["frames"][-1]
    assert (function, file) == ("divide", __file__)
    assert source == "return secret / 0"
    assert line == divide.__code__.co_firstlineno + 1


def test_the_text_is_pythons_with_a_dotted_name_at_the_end():
    lines = printed(described(divide)).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-3].startswith(f'  File "{__file__}", line ')
    assert lines[-3].endswith(", in divide")
    assert lines[-2] == "    return secret / 0"
    assert lines[-1] == LAST.strip()


def test_an_error_that_was_never_raised_is_marked():
    data = tracebacks.describe(RuntimeError("bad"), None)
    assert printed(data) == (
        "Traceback (most recent call last):\nFailure: builtins.RuntimeError: bad\n"
    )
    assert printed(data, tracebacks.brief) == (
        "Traceback (failure with no frames): <class 'RuntimeError'>: bad\n"
    )


def test_the_brief_form_has_a_line_for_each_place():
    data = described(divide)
    lines = printed(data, tracebacks.brief).splitlines()
    assert lines[0] == "Traceback: <class 'ZeroDivisionError'>: division by zero"
    assert lines[-1] == f"{__file__}:{data['frames'][-1][2]}:divide"


def test_variables_are_not_kept_by_default():
    data = described(divide)
    assert "locals" not in data
    text = printed(data, tracebacks.detailed, 7)
    assert text.startswith("*--- Failure #7 (pickled) ---\n")
    assert text.endswith("\n*--- End of Failure #7 ---\n")
    assert "divide(...)\n" in text
    assert "42" not in text.replace(__file__, "")
    assert "[ Locals ] not kept" in text


def test_variables_that_are_kept_are_printed_in_the_detailed_form_only():
    data = described(divide, keep_locals=True)
    assert data["locals"][-1] == [("secret", "42")]
    assert "  secret : 42\n" in printed(data, tracebacks.detailed, 7)
    assert "42" not in printed(data)


def test_variables_are_bounded_in_number_and_length():
    code = "".join(f"v{i} = {i}\n" for i in range(100)) + "x = y"
    data = described(exec, code, {"__name__": "generated"}, keep_locals=True)
    assert len(data["locals"][-1]) <= tracebacks.LOCALS
    assert len(tracebacks.repr_of("x" * 10_000)) <= tracebacks.VALUE + 2
    assert len(tracebacks.repr_of(list(range(10_000)))) <= tracebacks.VALUE


def test_an_endless_recursion_keeps_the_first_and_the_last_frames():
    depth = 500
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 2 * depth))
    try:
        data = described(recurse, depth)
    finally:
        sys.setrecursionlimit(limit)
    frames = data["frames"]
    assert len(frames) == tracebacks.FRAMES
    assert [frame[0] for frame in frames[:2]] == ["raised", "recurse"]
    assert [frame[0] for frame in frames[-2:]] == ["recurse", "divide"]
    # raised, recurse(500) ... recurse(0), divide
    omitted = 1 + depth + 1 + 1 - tracebacks.FRAMES
    assert data["omitted"] == (tracebacks.FRAMES // 2, omitted)
    assert printed(data).count(f"  [{omitted} frames omitted]\n") == 1


def test_a_recursion_error_itself_can_be_described():
    data = described(recurse, 1_000_000)
    assert data["type"] == "builtins.RecursionError"
    assert len(data["frames"]) == tracebacks.FRAMES


def test_an_enormous_message_is_cut_and_says_so():
    data = tracebacks.describe(RuntimeError("x" * 100_000), None)
    left = 100_000 - tracebacks.MESSAGE
    assert data["message"].endswith(f"x... [{left} more characters]")
    assert len(data["message"]) < tracebacks.MESSAGE + 50


def test_errors_whose_str_or_repr_raise_anything_are_described():
    name = f"{__name__}.Rude"
    data = described(fail_with, Rude(), keep_locals=True)
    assert data["message"] == f"<{name}, whose str raises builtins.SystemExit>"
    assert dict(data["locals"][-1])["error"] == (
        f"<{name}, whose repr raises builtins.KeyboardInterrupt>"
    )
    assert is_plain(data)


def test_strings_of_odd_classes_and_encodings_become_plain():
    assert type(tracebacks.message_of(Texted())) is str
    assert tracebacks.message_of(ValueError("a\udc80b")) == "a\\udc80b"


def test_the_cause_is_printed_before_the_error():
    cause = raised(divide)
    text = printed(described(fail_with, KeyError("k"), cause))
    first, second = text.split(
        "\nThe above exception was the direct cause of the following exception:\n\n"
    )
    assert first.endswith(LAST)
    assert second.endswith("builtins.KeyError: 'k'\n")


def test_the_context_is_printed_unless_it_was_suppressed():
    def handle(*cause):
        try:
            divide()
        except ZeroDivisionError:
            if cause:
                raise KeyError("k") from None
            raise KeyError("k")  # noqa: B904

    text = printed(described(handle))
    assert "\nDuring handling of the above exception, another exception" in text
    assert "ZeroDivisionError" not in printed(described(handle, None))


def test_a_chain_that_bites_its_tail_ends():
    one, two = KeyError("one"), KeyError("two")
    one.__cause__, two.__cause__ = two, one
    chain = tracebacks.describe(one, None)["chain"]
    assert [data["message"] for _link, data in chain] == ["'two'"]


def test_a_long_chain_is_bounded():
    error = None
    for number in range(100):
        error, cause = KeyError(number), error
        error.__cause__ = cause
    chain = tracebacks.describe(error, None)["chain"]
    assert len(chain) == tracebacks.RELATED


def test_members_of_a_group_are_described_with_their_own_causes():
    member = raised(fail_with, KeyError("k"), raised(divide))
    group = ExceptionGroup("many", [ValueError("v"), member])
    text = printed(described(fail_with, group))
    assert "builtins.ExceptionGroup: many (2 sub-exceptions)\n" in text
    assert "  +--- error 1 of 2 ---\n" in text
    assert "  | " + LAST in text
    assert text.endswith("  | builtins.KeyError: 'k'\n")


def test_a_group_in_the_chain_shows_its_members():
    cause = ExceptionGroup("many", [ValueError("inner")])
    text = printed(described(fail_with, KeyError("k"), cause))
    assert "  | Failure: builtins.ValueError: inner\n" in text
    assert text.endswith("builtins.KeyError: 'k'\n")


def test_a_group_of_groups_is_bounded():
    group = ExceptionGroup("leaf", [ValueError(i) for i in range(50)])
    for _ in range(50):
        group = ExceptionGroup("outer", [group, ValueError("v")])
    assert printed(tracebacks.describe(group, None)).count("Failure: ") <= 21


def test_notes_follow_the_message():
    error = ValueError("v")
    error.add_note("seen on a Tuesday")
    assert printed(tracebacks.describe(error, None)).endswith(
        "builtins.ValueError: v\nseen on a Tuesday\n"
    )


def test_code_without_a_source_file_is_shown_without_source_lines():
    data = described(exec, "1 / 0", {})
    assert data["frames"][-1][1] == "<string>"
    assert printed(data).endswith(", in <module>\n" + LAST)


def test_names_of_classes_are_dotted():
    assert tracebacks.dotted(KeyError) == "builtins.KeyError"
    assert tracebacks.dotted(b"remote.Error") == "remote.Error"
    nameless = type("Nameless", (), {"__module__": None})
    assert tracebacks.dotted(nameless) == "Nameless"
