import pytest

from seggpt import errors

NAMES = ("InputError", "PromptError", "CheckpointError", "DeviceError")


@pytest.mark.parametrize("name", NAMES)
def test_one_except_clause_catches_every_error(name):
    with pytest.raises(errors.SegGPTError, match=r"a\.png"):
        raise getattr(errors, name)("a.png: 0 is wrong; pass 1")


@pytest.mark.parametrize(
    ("name", "is_value_error"), list(zip(NAMES, (True, True, False, False), strict=True))
)
def test_only_errors_about_arguments_are_value_errors(name, is_value_error):
    assert issubclass(getattr(errors, name), ValueError) is is_value_error


def test_an_error_of_one_kind_is_not_caught_as_another():
    for name in NAMES:
        others = tuple(getattr(errors, other) for other in NAMES if other != name)
        assert not issubclass(getattr(errors, name), others)
