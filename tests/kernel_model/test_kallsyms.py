"""Symbols of the real images: sizes reach to the next symbol, modules are named, BPF text comes and goes."""

from pathlib import Path

import pytest

import images
from kernel_model.errors import ObjectFileError
from kernel_model.image import load_image
from kernel_model.kallsyms import Kallsyms

IMAGES = Path(images.__file__).parent


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def image(request):
    return load_image(IMAGES / f"vmlinux.{request.param}")


def test_text_symbols(image):
    kallsyms = Kallsyms(image)
    address = image.addresses["fixup_exception"]
    found = kallsyms.lookup(address + 4)
    assert (found.name, found.offset, found.module) == ("fixup_exception", 4, None)
    assert kallsyms.lookup(address + found.size).name != "fixup_exception"
    assert kallsyms.is_text(address) and not kallsyms.is_text(image.addresses["kernel_features"])


def test_modules_are_named(image):
    kallsyms = Kallsyms(image)
    assert kallsyms.symbol(image.addresses["g_read"]).startswith("g_read+0x0/")
    assert kallsyms.symbol(image.addresses["g_read"]).endswith(" [golden]")


def test_a_return_address_belongs_to_the_call_before_it(image):
    kallsyms = Kallsyms(image)
    address = image.addresses["fixup_exception"]
    assert kallsyms.symbol(address).startswith("fixup_exception+0x0/")
    assert not kallsyms.return_symbol(address).startswith("fixup_exception")


def test_bpf_text_comes_and_goes(image):
    kallsyms = Kallsyms(image)
    start = max(s.va + s.size for s in image.segments if s.executable) + 0x100000
    assert kallsyms.symbol(start + 4) == f"0x{start + 4:x}"
    kallsyms.add_bpf(start, start + 64, "bpf_prog_0123456789abcdef_main")
    assert kallsyms.symbol(start + 4) == "bpf_prog_0123456789abcdef_main+0x4/0x40"
    assert kallsyms.is_text(start + 4)
    kallsyms.remove_bpf(start)
    assert kallsyms.symbol(start + 4) == f"0x{start + 4:x}"


def test_damaged_images_are_one_clear_error(image, tmp_path):
    data = (IMAGES / image.name).read_bytes()
    for length in (0, 4, 63, 64, 200, len(data) // 2):
        cut = tmp_path / "cut"
        cut.write_bytes(data[:length])
        with pytest.raises(ObjectFileError, match="cut"):
            load_image(cut)
    with pytest.raises(ObjectFileError, match="nowhere"):
        load_image(tmp_path / "nowhere")
