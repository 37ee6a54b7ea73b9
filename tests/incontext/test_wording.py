from incontext.wording import option, speak_as_command


def test_options_are_named_as_the_reader_knows_them():
    def names():
        return option("kind", "labels"), option("max_pixels"), option("bands", (3, 2, 1))

    python = ("kind='labels'", "max_pixels", "bands=(3, 2, 1)")
    assert names() == python
    with speak_as_command():
        assert names() == ("--mask-kind labels", "--max-pixels", "--bands 3,2,1")
    assert names() == python
